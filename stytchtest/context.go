package stytchtest

import (
	"context"

	"github.com/stytchhttp/stytchhttp"
)

// Context returns a context with a session in it, for tests of handlers without any server:
//
//	r := httptest.NewRequest("GET", "/", nil)
//	r = r.WithContext(stytchtest.Context(r.Context(), "user-test-1", stytchtest.Roles("admin")))
//	handler.ServeHTTP(httptest.NewRecorder(), r)
func Context(ctx context.Context, userID string, options ...Option) context.Context {
	return stytchhttp.WithSession(ctx, Session(userID, options...))
}
