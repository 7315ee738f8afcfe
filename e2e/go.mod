module github.com/stytchhttp/stytchhttp/e2e

go 1.26

require (
	github.com/chromedp/chromedp v0.23.0
	github.com/stytchhttp/stytchhttp v0.0.0
)

require (
	github.com/MicahParks/jwkset v0.11.4 // indirect
	github.com/MicahParks/keyfunc/v3 v3.9.1 // indirect
	github.com/chromedp/cdproto v0.159.0 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/gorilla/securecookie v1.1.2 // indirect
	github.com/maypok86/otter/v2 v2.4.0 // indirect
	golang.org/x/time v0.15.0 // indirect
)

replace github.com/stytchhttp/stytchhttp => ../
