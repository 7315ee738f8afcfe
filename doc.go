// Package stytchhttp is net/http middleware for Stytch sessions. A Go backend logs people in with any Stytch backend SDK, and
// this package carries the session from there on: it hands it to the browser, reads it back on every request, proves it
// locally by the project's public keys when it can and by the remote call when it must, and guards routes with it.
//
//	auth, err := stytchhttp.New(stytchhttp.Config{ProjectID: "project-test-…", Secret: "secret-test-…"})
//	defer auth.Close()
//
//	mux.Handle("/api/me",    auth.Hydrate(auth.Authenticate(me)))
//	mux.Handle("/api/admin", auth.Protect(stytchhttp.Role("admin"))(admin))
//	mux.Handle("/",          auth.Hydrate(auth.AuthenticateOptional(home)))
//	mux.Handle("/pay",       auth.Hydrate(auth.AuthenticateWithin(30*time.Second)(pay)))
//
// Every wrapper is a func(http.Handler) http.Handler, and none wraps the http.ResponseWriter.
//
// # One request
//
// [Middleware.Hydrate] finds the tokens, [Middleware.Authenticate] proves them by the cheapest means that will do, and
// [Middleware.Require] asks whether the session may use the route. [SessionFrom], [ViaFrom], [TokensFrom] and [ClaimsFrom]
// read what they found. An ordinary request writes no cookie.
//
// # After a login
//
// [Middleware.UpdateSession] sets the cookies in which Stytch's browser SDK keeps a session, so that the page's SDK is
// logged in when it starts. [Middleware.Revoke] logs out, at once in this process, although the session's JWTs would still
// verify for minutes.
//
// # When Stytch is down
//
// A JWT that holds still passes; whoever would need the remote call gets 503 with Retry-After. Nobody is logged out by an
// outage.
//
// # Testing
//
// Package stytchtest is a Stytch for tests, in process.
package stytchhttp
