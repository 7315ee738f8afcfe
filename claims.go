package stytchhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// ClaimsFrom decodes the session's custom claims (at most 4 KB in all, a Stytch rule) into T, as encoding/json does: a
// struct with json tags, or a map. A session without custom claims decodes like an empty object. The error is
// [ErrNoSession] if the request has no session, and says what is wrong if the claims don't fit T; there is no value then.
//
// They are decoded when they are first asked for and once: for the session if T is made of plain values alone (strings,
// numbers, bools, times, and structs and arrays of them), else for the request. Who gets a T with maps, slices or pointers
// shares it with the others in the request who ask for T, and must not change it.
func ClaimsFrom[T any](ctx context.Context) (T, error) {
	session, ok := SessionFrom(ctx)
	if !ok {
		var zero T
		return zero, ErrNoSession
	}
	return once(stateFrom(ctx), session, "", func() (T, error) {
		var claims T
		raw := session.customClaims
		if raw == nil {
			raw = json.RawMessage("{}")
		}
		if err := json.Unmarshal(raw, &claims); err != nil {
			var zero T
			return zero, fmt.Errorf("stytchhttp: the session's custom claims are no %T: %w", zero, err)
		}
		return claims, nil
	})
}

var errNoClaim = errors.New("stytchhttp: the session has no such custom claim")

// claim decodes one custom claim, by its exact name.
func claim[T any](session *Session, name string) (T, error) {
	return once(nil, session, name, func() (T, error) {
		var value, zero T
		var members map[string]json.RawMessage
		if session.customClaims != nil {
			if err := json.Unmarshal(session.customClaims, &members); err != nil {
				return zero, err
			}
		}
		raw, ok := members[name]
		if !ok || string(raw) == "null" {
			return zero, errNoClaim
		}
		if err := json.Unmarshal(raw, &value); err != nil {
			return zero, err
		}
		return value, nil
	})
}

// decodedKey names what was decoded: the session's custom claims, or one of them, as a type.
type decodedKey struct {
	session *Session
	as      reflect.Type
	claim   string // "" for all
}

// decoded is what came of it.
type decoded[T any] struct {
	value T
	err   error
}

// once decodes, or returns what was decoded before. What could be changed through is never shared between requests: it is
// kept in s, the request's state, if there is one.
func once[T any](s *state, session *Session, claim string, decode func() (T, error)) (T, error) {
	key := decodedKey{session, reflect.TypeFor[T](), claim}
	if d, ok := session.decoded.Load(key); ok {
		d := d.(decoded[T])
		return d.value, d.err
	}
	if isPlain(key.as) {
		var d decoded[T]
		d.value, d.err = decode()
		session.decoded.Store(key, d)
		return d.value, d.err
	}
	if s == nil {
		return decode()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.decoded[key].(decoded[T]); ok {
		return d.value, d.err
	}
	var d decoded[T]
	d.value, d.err = decode()
	if s.decoded == nil {
		s.decoded = make(map[decodedKey]any)
	}
	s.decoded[key] = d
	return d.value, d.err
}

// isPlain reports whether a copy of a value of this type shares nothing with it that can be changed.
func isPlain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	case reflect.Array:
		return isPlain(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return true
		}
		for i := range t.NumField() {
			if !isPlain(t.Field(i).Type) {
				return false
			}
		}
		return true
	}
	return false
}
