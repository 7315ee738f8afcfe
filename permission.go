package stytchhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	policyInterval   = 5 * time.Minute
	policyTimeout    = 5 * time.Second
	policyWait       = time.Second
	minPolicyBackoff = time.Second
	maxPolicyBackoff = 30 * time.Second
)

// Permission is met by a session one of whose roles may do action on resource, by the project's RBAC policy
// (https://stytch.com/docs/guides/authorization/rbac). A "*" among a role's actions is all. It fails as rule "permission".
//
// It is decided here: the policy is loaded in the background from the first call of Permission on, refreshed every five
// minutes, and kept during outages. As long as it was never loaded nobody is let pass: the answer is an [ErrUnavailable], and
// Ready says so too. The roles are the session's, as Stytch last said them.
func (m *Middleware) Permission(resource, action string) Rule {
	m.policy.start.Do(func() {
		m.policy.tried = make(chan struct{})
		m.policy.started.Store(true)
		m.tasks.run(m.keepPolicy)
	})
	failed := &RuleError{Rule: "permission", Detail: "This needs a role that may " + action + " " + resource + "."}
	return func(r *http.Request, s *Session) error {
		granted, err := m.policy.wait(r.Context())
		if err != nil {
			return err
		}
		for _, role := range s.roles {
			if granted[grant{role, resource, action}] || granted[grant{role, resource, "*"}] {
				return nil
			}
		}
		return failed
	}
}

// policy is the project's RBAC policy.
type policy struct {
	start   sync.Once
	started atomic.Bool
	tried   chan struct{} // closed when the first attempt to load it has ended
	granted atomic.Pointer[map[grant]bool]
	lastErr atomic.Pointer[error]
}

// grant is one thing that a role may do.
type grant struct{ role, resource, action string }

// wait returns the policy. Before the first attempt to load it has ended, it waits for that.
func (p *policy) wait(ctx context.Context) (map[grant]bool, error) {
	if granted := p.granted.Load(); granted != nil {
		return *granted, nil
	}
	timeout := time.NewTimer(policyWait)
	defer timeout.Stop()
	err := errors.New("the RBAC policy is being loaded")
	select {
	case <-p.tried:
		if granted := p.granted.Load(); granted != nil {
			return *granted, nil
		}
		if last := p.lastErr.Load(); last != nil {
			err = fmt.Errorf("the RBAC policy was never loaded: %w", *last)
		}
	case <-timeout.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return nil, &UnavailableError{Cause: err}
}

// keepPolicy loads the policy and refreshes it until Close.
func (m *Middleware) keepPolicy() {
	failures := 0
	for first := true; ; first = false {
		began := time.Now()
		granted, err := m.fetchPolicy()
		if err == nil {
			m.policy.granted.Store(&granted)
		} else {
			m.policy.lastErr.Store(&err)
		}
		if first {
			close(m.policy.tried)
		}
		if m.ctx.Err() != nil {
			return
		}
		m.reportCall(m.ctx, Event{Kind: EventPolicyRefresh, Err: err, Duration: time.Since(began), Attempt: 1})

		wait := policyInterval - rand.N(policyInterval/10)
		if err != nil {
			backoff := min(minPolicyBackoff<<min(failures, 10), maxPolicyBackoff)
			wait = backoff/2 + rand.N(backoff/2)
			failures++
		} else {
			failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-m.ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (m *Middleware) fetchPolicy() (map[grant]bool, error) {
	ctx, cancel := context.WithTimeout(m.ctx, policyTimeout)
	defer cancel()
	body, err := m.client.call(ctx, http.MethodGet, "/v1/rbac/policy?project_id="+url.QueryEscape(m.config.ProjectID), nil)
	if err != nil {
		return nil, verdictOf(err)
	}
	granted, err := parsePolicy(body)
	if err != nil {
		return nil, &UnavailableError{Cause: err}
	}
	return granted, nil
}

// parsePolicy reads an answer of the policy endpoint. Every project has roles: an answer without any is a broken one, and
// must not replace a good one.
func parsePolicy(body []byte) (map[grant]bool, error) {
	var answer struct {
		Policy struct {
			Roles []struct {
				ID          string `json:"role_id"`
				Permissions []struct {
					ResourceID string   `json:"resource_id"`
					Actions    []string `json:"actions"`
				} `json:"permissions"`
			} `json:"roles"`
		} `json:"policy"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%w: not an RBAC policy: %w", errUnreadable, err)
	}
	if len(answer.Policy.Roles) == 0 {
		return nil, fmt.Errorf("%w: an RBAC policy without roles", errUnreadable)
	}
	granted := make(map[grant]bool)
	for _, role := range answer.Policy.Roles {
		for _, permission := range role.Permissions {
			for _, action := range permission.Actions {
				granted[grant{role.ID, permission.ResourceID, action}] = true
			}
		}
	}
	return granted, nil
}
