package stytchhttp

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// UpdateSession hands a session to the browser and to this request: the server's half of the browser SDK's method of the
// same name. Call it after a login with any Stytch backend SDK, with the tokens of its answer, before anything is written to
// w. tokens.SessionToken is required, tokens.SessionJWT optional.
//
// The tokens are authenticated first, locally by the JWT if it holds, else by the remote call. Then it sets the cookies,
// which end with the session, and, if the request was hydrated, puts the session into its context. The two tokens must come
// from one answer of Stytch: that they belong together is checked only by the remote call, so don't pass on a pair that a
// client sent.
//
// The JWT cookie is left out if it exceeds what browsers store; the session token suffices. The answer becomes
// Cache-Control: private, no-store.
//
// Errors: [ErrNoSession] if the session token is missing, [ErrInvalidSession] if the tokens don't authenticate,
// [ErrUnavailable] if that can't be told now, and [ErrCrossOrigin] if another origin's page sent this request by an unsafe
// method, since that would log the user in as whom the page likes. Nothing is written then.
func (m *Middleware) UpdateSession(w http.ResponseWriter, r *http.Request, tokens Tokens) error {
	if m.crossOrigin.Check(r) != nil {
		return ErrCrossOrigin
	}
	if tokens.SessionJWT == undefinedJWT {
		tokens.SessionJWT = ""
	}
	if tokens.SessionToken == "" {
		return ErrNoSession
	}
	if formed, _ := wellFormed(tokens); formed != tokens {
		return errMalformed
	}
	ctx := r.Context()
	v, err := m.login(ctx, &tokens)
	if err != nil {
		return err
	}
	return m.hand(w, r, tokens, v)
}

// hand gives an authenticated session to the browser and to this request.
func (m *Middleware) hand(w http.ResponseWriter, r *http.Request, tokens Tokens, v verdict) error {
	if err := m.cookies.write(w, r, tokens, v.session.expiresAt); err != nil {
		return err
	}
	if s := stateFrom(r.Context()); s != nil && s.owner == m {
		s.mu.Lock()
		s.tokens, s.tokenErr = tokens, nil
		s.session, s.via, s.err = v.session, v.via, nil
		s.mu.Unlock()
	}
	return nil
}

// login authenticates tokens that Stytch just issued. A JWT that came with them must hold; one that is only out of its time
// is replaced by the fresh one of the remote call.
func (m *Middleware) login(ctx context.Context, tokens *Tokens) (verdict, error) {
	now := m.config.Now()
	if tokens.SessionJWT != "" {
		v, via, err := m.genuine(ctx, tokens.SessionJWT)
		if errors.Is(err, ErrInvalidSession) {
			return verdict{}, err
		}
		if err == nil && m.usable(v, now, byLifetime) {
			// What is known of the session token may be from before a step-up, or another factor that was added.
			m.memory.forgetExchange(tokens.SessionToken)
			return m.admit(v.session, via, now)
		}
	}
	response, _, err := m.ask(ctx, question{credential: tokens.speaker(), vouched: true})
	if err != nil {
		return verdict{}, err
	}
	tokens.SessionJWT = ""
	if isJWT(response.Tokens.SessionJWT) {
		tokens.SessionJWT = response.Tokens.SessionJWT
	}
	return m.admit(response.Session, ViaRemote, now)
}

// Revoke logs the request's user out: it removes the cookies, refuses the session here from now on, and revokes it at
// Stytch. Call it before anything is written to w. A request without a session, or with one that is gone already, is no
// error: its cookies are removed too.
//
// If Stytch can't be told, the error is an [ErrUnavailable]; the browser is logged out all the same, and the session stays
// refused in this process until the end that is known of it, and for 24 hours at least. A call that the client no longer waits for goes on. The error is [ErrCrossOrigin],
// and nothing happens, if another origin's page sent this request by an unsafe method.
func (m *Middleware) Revoke(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := m.detach(r.Context())
	defer cancel()
	s := stateFrom(ctx)
	if s == nil || s.owner != m {
		s = &state{}
		s.tokens, s.source, s.tokenErr = m.tokensOf(r)
	}
	// Even a request without any cookie: SameSite withholds them from another site's form, whose answer would remove them.
	if s.source.kind != sourceBearer && m.crossOrigin.Check(r) != nil {
		return ErrCrossOrigin
	}
	m.cookies.clear(w, r)

	s.mu.Lock()
	tokens, session, err := s.tokens, s.session, s.tokenErr
	s.session, s.via, s.err = nil, "", errRevoked
	s.mu.Unlock()
	if session == nil && err != nil {
		return nil
	}
	if session == nil {
		session, err = m.sessionOf(ctx, tokens)
		if errors.Is(err, ErrInvalidSession) {
			return nil
		}
	}
	if session != nil {
		return m.revoke(ctx, session.id, session.expiresAt)
	}
	if tokens.SessionToken == "" {
		return err // an unproven JWT is not passed on
	}
	// Whose token it is can't be asked now. The token itself is refused, and Stytch gets it as it is.
	now := m.config.Now()
	m.revoked.add(tokens.SessionToken, now.Add(unrevokedMemory), now)
	return m.remote.revoke(ctx, RevokeRequest{Tokens: Tokens{SessionToken: tokens.SessionToken}})
}

// sessionOf returns the session that the tokens speak of; a JWT need not be in time for that.
func (m *Middleware) sessionOf(ctx context.Context, tokens Tokens) (*Session, error) {
	if tokens.SessionJWT != "" {
		v, _, err := m.genuine(ctx, tokens.SessionJWT)
		if err == nil {
			return v.session, nil
		}
		if tokens.SessionToken == "" {
			return nil, err
		}
	}
	v, err := m.climb(ctx, Tokens{SessionToken: tokens.SessionToken}, byLifetime, 0)
	return v.session, err
}

// RevokeSession logs somebody out by the session's id: it refuses the session here from now on and revokes it at Stytch. A
// session that is gone already is no error. If Stytch can't be told, the error is an [ErrUnavailable], and the session stays
// refused in this process for 24 hours.
func (m *Middleware) RevokeSession(ctx context.Context, sessionID string) error {
	if sessionID == "" {
		return ErrNoSession
	}
	ctx, cancel := m.detach(ctx)
	defer cancel()
	return m.revoke(ctx, sessionID, time.Time{})
}

// revoke refuses the session here before Stytch is asked, so that no request slips through meanwhile.
func (m *Middleware) revoke(ctx context.Context, id string, expiresAt time.Time) error {
	now := m.config.Now()
	m.revoked.add(id, now.Add(m.config.Leeway+m.config.StaleGrace+revocationMemory), now)
	err := m.remote.revoke(ctx, RevokeRequest{SessionID: id})
	if err != nil {
		// The end that is known may be out of date: the session may have been extended since.
		until := now.Add(unrevokedMemory)
		if expiresAt.After(until) {
			until = expiresAt
		}
		m.revoked.add(id, until.Add(m.config.Leeway+m.config.StaleGrace), now)
	}
	return err
}
