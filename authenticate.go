package stytchhttp

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// byLifetime is the maxAge of routes that take Stytch's word for as long as a JWT lives.
const byLifetime time.Duration = -1

// Authenticate is the second wrapper: it proves the session of a request, puts it into the context for [SessionFrom], and
// refuses the request if it can't, as [WriteProblem] describes. It climbs this ladder, cheapest rung first:
//
//	cache      this very JWT was verified before
//	local      the JWT verifies with the project's public keys
//	exchanged  the credential was exchanged for a fresh JWT before, which still holds
//	remote     Stytch is asked; many requests with one credential make one call
//	stale      only with Config.StaleGrace: Stytch can't be reached, and the JWT expired a short while ago
//
// A session that passes lived at most five minutes ago, a JWT's lifetime: that is Stytch's own contract, and holds for
// opaque session tokens too. Who needs to know sooner uses [Middleware.AuthenticateWithin]. A session revoked through this
// Middleware is refused at once.
//
// A request with cookies that a browser sends from another origin by an unsafe method is refused ([ErrCrossOrigin]).
// Without Hydrate before it, it hydrates by itself.
func (m *Middleware) Authenticate(next http.Handler) http.Handler {
	return m.authenticate(next, byLifetime, false)
}

// AuthenticateOptional climbs the same ladder and refuses nobody: without a session the request goes on as anonymous, and
// [ErrFrom] tells why. Only a cross-origin request is refused as behind Authenticate.
func (m *Middleware) AuthenticateOptional(next http.Handler) http.Handler {
	return m.authenticate(next, byLifetime, true)
}

// AuthenticateWithin returns an Authenticate that uses no verdict which Stytch gave longer than d ago: a JWT counts from its
// iat, a remote call from its start. With 0 Stytch is asked now, and no call is joined that began before the request: a
// session revoked anywhere is then refused at once, at the price of a call per request. d must not be negative: it is
// taken for 0.
func (m *Middleware) AuthenticateWithin(d time.Duration) func(http.Handler) http.Handler {
	d = max(d, 0)
	return func(next http.Handler) http.Handler {
		return m.authenticate(next, d, false)
	}
}

func (m *Middleware) authenticate(next http.Handler, maxAge time.Duration, optional bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r, s := m.hydrate(w, r)
		if err := m.sameOrigin(r, s.source); err != nil {
			s.set(nil, "", err)
			m.decided(s, nil, "", err, 0)
			m.refuse(w, r, err)
			return
		}
		v, err := m.prove(s, maxAge)
		s.set(v.session, v.via, err)
		if err != nil && !optional {
			m.refuse(w, r, err)
			return
		}
		if v.extended != (Tokens{}) && s.source.kind == sourceCookies {
			if err := m.cookies.renew(w, r, v.extended, v.session.expiresAt); err != nil {
				m.config.Logger.ErrorContext(s, "stytchhttp: an extended session's cookies are not renewed", "error", err)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// sameOrigin refuses what another origin's page makes a browser send with credentials that the browser adds by itself. An
// upgrade to a websocket is a GET that changes the state of things, so it counts as unsafe.
func (m *Middleware) sameOrigin(r *http.Request, source Source) error {
	if source.kind == sourceNone || source.kind == sourceBearer {
		return nil
	}
	checked := r
	if r.Method == http.MethodGet && r.Header.Get("Upgrade") != "" {
		upgrade := *r
		upgrade.Method = http.MethodPost
		checked = &upgrade
	}
	if m.crossOrigin.Check(checked) != nil {
		return ErrCrossOrigin
	}
	return nil
}

// verdict is what a climb came to.
type verdict struct {
	session *Session
	via     Via
	// extended are the tokens of a session that this very request has extended at Stytch; otherwise empty.
	extended Tokens
}

// prove climbs the ladder for a hydrated request and reports the decision.
func (m *Middleware) prove(s *state, maxAge time.Duration) (v verdict, err error) {
	var began time.Time
	if m.config.Observe != nil {
		began = time.Now()
	}
	s.mu.Lock()
	tokens, err := s.tokens, s.tokenErr
	s.mu.Unlock()
	if err == nil {
		v, err = m.climb(s, tokens, maxAge, m.extendMinutes)
	}
	if m.config.Observe != nil {
		m.decided(s, v.session, v.via, err, time.Since(began))
	}
	return v, err
}

// climb is the ladder; a call to Stytch extends the session by minutes, if that is not 0. The error is an ErrInvalidSession or
// an ErrUnavailable.
func (m *Middleware) climb(ctx context.Context, tokens Tokens, maxAge time.Duration, minutes int) (verdict, error) {
	graceful := maxAge == byLifetime // a route that sets a bound of its own takes nothing stale
	if limit := m.config.MaxTokenAge; limit > 0 && (maxAge == byLifetime || maxAge > limit) {
		maxAge = limit
	}
	now := m.config.Now()

	// Rungs 1 and 2: the JWT proves itself.
	var genuine *verified
	if tokens.SessionJWT != "" {
		v, via, err := m.genuine(ctx, tokens.SessionJWT)
		switch {
		case err == nil && m.usable(v, now, maxAge):
			if !m.revoked.has(v.session.id, now) {
				return verdict{session: v.session, via: via}, nil
			}
			if tokens.SessionToken == "" {
				return verdict{}, errRevoked
			}
			// The session token beside it may be that of a new login.
		case err == nil:
			genuine = v
		case tokens.SessionToken == "":
			return verdict{}, err
		}
	}

	// From here on one credential speaks: the session token, else the genuine JWT that is out of its time.
	credential := tokens.speaker()
	if m.revoked.has(credential.value(), now) {
		return verdict{}, errRevoked
	}

	// Rung 3: it was exchanged for a fresh JWT before.
	fresh, vouched := m.memory.exchange(credential.value())
	if vouched {
		if v, _, err := m.genuine(ctx, fresh); err == nil && m.usable(v, now, maxAge) {
			return m.admit(v.session, ViaExchanged, now)
		}
	}

	// Rung 4: Stytch is asked.
	q := question{credential: credential, minutes: minutes, vouched: vouched || credential.SessionJWT != ""}
	if maxAge != byLifetime {
		q.notBefore = now.Add(-maxAge)
	}
	response, led, err := m.ask(ctx, q)
	if genuine != nil && errors.Is(err, errNoCredit) {
		q.credential, q.vouched = Tokens{SessionJWT: tokens.SessionJWT}, true
		response, led, err = m.ask(ctx, q)
	}
	if err == nil {
		v, err := m.admit(response.Session, ViaRemote, now)
		if err == nil && led && minutes > 0 {
			v.extended = response.Tokens
		}
		return v, err
	}

	// Rung 5: nobody is there to ask.
	if graceful && errors.Is(err, ErrUnavailable) && genuine != nil && m.tolerable(genuine, now) {
		return m.admit(genuine.session, ViaStale, now)
	}
	return verdict{}, err
}

// admit lets a session pass that was proven, unless it was revoked here.
func (m *Middleware) admit(session *Session, via Via, now time.Time) (verdict, error) {
	if m.revoked.has(session.id, now) {
		return verdict{}, errRevoked
	}
	return verdict{session: session, via: via}, nil
}

// genuine returns what a JWT of this project says, in time or not, from memory or by verifying it.
func (m *Middleware) genuine(ctx context.Context, jwt string) (*verified, Via, error) {
	if v, ok := m.memory.proof(jwt); ok {
		return v, ViaCache, nil
	}
	v, err := m.verify(ctx, jwt)
	if err != nil {
		return nil, "", err
	}
	m.memory.keepProof(jwt, v)
	return v, ViaLocal, nil
}

// usable reports whether a genuine JWT answers the question now. One that is younger than now is worth a warning.
func (m *Middleware) usable(v *verified, now time.Time, maxAge time.Duration) bool {
	if maxAge == 0 {
		return false // the question is what Stytch says now
	}
	switch v.timing(now, m.config.Leeway, maxAge) {
	case inTime:
		return true
	case fromTheFuture:
		if m.seldom(&m.warnedFuture) {
			m.config.Logger.Warn("stytchhttp: a session JWT is from the future: this machine's clock is behind Stytch's; "+
				"each such request asks Stytch", "ahead", v.issuedAt.Sub(now), "session_id", v.session.id)
		}
	}
	return false
}

// tolerable reports whether a genuine JWT may pass while Stytch can't be asked.
func (m *Middleware) tolerable(v *verified, now time.Time) bool {
	grace := m.config.StaleGrace
	if grace == 0 || v.timing(now, m.config.Leeway, byLifetime) == fromTheFuture {
		return false
	}
	return v.timing(now, m.config.Leeway+grace, byLifetime) == inTime
}

// question is one thing to ask Stytch: does the session of this credential live?
type question struct {
	credential Tokens    // one of the two
	notBefore  time.Time // an older answer won't do; zero: any that is under way will
	minutes    int       // by which the session is extended from now; 0: it is not
	vouched    bool      // it comes from Stytch: it was accepted before, or is a genuine JWT
}

// speaker returns the one token that stands for both: the session token, if there is one.
func (t Tokens) speaker() Tokens {
	if t.SessionToken != "" {
		return Tokens{SessionToken: t.SessionToken}
	}
	return Tokens{SessionJWT: t.SessionJWT}
}

// value returns the token of a speaker.
func (t Tokens) value() string { return t.SessionToken + t.SessionJWT }

// ask makes the remote call about a question, or joins one under way; led says that it was this request's own. The call
// goes on when this request is gone.
func (m *Middleware) ask(ctx context.Context, q question) (response AuthenticateResponse, led bool, err error) {
	key := q.credential.value()
	if m.memory.isRefused(key) {
		return AuthenticateResponse{}, false, errRefused
	}
	f, led := m.flights.join(flightKey{key, q.minutes}, q.notBefore, m.config.Now, func() (response AuthenticateResponse, err error) {
		if !q.vouched && !m.credit.spend() {
			return AuthenticateResponse{}, &UnavailableError{Cause: errNoCredit}
		}
		ctx, cancel := m.detach(ctx)
		defer cancel()
		response, err = m.remote.authenticate(ctx, AuthenticateRequest{Tokens: q.credential, SessionDurationMinutes: q.minutes})
		if !q.vouched && err == nil {
			m.credit.giveBack(2)
		} else if !q.vouched && errors.Is(err, ErrUnavailable) {
			m.credit.giveBack(1)
		}
		switch {
		case err == nil:
			m.memory.keepExchange(key, response.Tokens.SessionJWT)
		case errors.Is(err, ErrInvalidSession):
			m.memory.keepRefusal(key, err)
		}
		return response, err
	})
	if f == nil {
		return AuthenticateResponse{}, false, &UnavailableError{Cause: errClosed}
	}
	response, err = f.wait(ctx)
	return response, led, err
}

// confirm asks Stytch now, whatever is known here, and extends the session by minutes, if that is not 0. A JWT alone must be
// genuine before it is passed on.
func (m *Middleware) confirm(ctx context.Context, tokens Tokens, minutes int) (AuthenticateResponse, error) {
	now := m.config.Now()
	if tokens.SessionToken == "" {
		if _, _, err := m.genuine(ctx, tokens.SessionJWT); err != nil {
			return AuthenticateResponse{}, err
		}
	}
	credential := tokens.speaker()
	_, known := m.memory.exchange(credential.value())
	response, _, err := m.ask(ctx, question{
		credential: credential, notBefore: now, minutes: minutes, vouched: known || credential.SessionJWT != "",
	})
	if err != nil {
		return AuthenticateResponse{}, err
	}
	_, err = m.admit(response.Session, ViaRemote, now)
	return response, err
}

var errClosed = errors.New("the middleware is closed")
