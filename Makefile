# Every module of the repository; the core comes first.
MODULES := . e2e

.PHONY: demo test e2e soak fuzz lint setup

# The demo, on an embedded Stytch: nothing but Go is needed.
demo:
	go run ./examples/quickstart

# All tests of all modules, with the race detector. Installs what they need where it can, and says what is missing elsewhere.
test: setup
	@set -e; for module in $(MODULES); do \
		echo "== go test -race ./... in $$module"; \
		(cd $$module && go test -race -count=1 -timeout=10m ./...); \
	done

# Of these, the ones with Stytch's real SDKs, for Node and in a real Chromium. Screenshots go to stytchhttp-e2e in the
# system's folder for temporary files.
e2e: setup
	cd e2e && go test -race -count=1 -timeout=10m ./...

# A server under load for SOAK while keys rotate, Stytch flaps, sessions are revoked and the clock jumps.
SOAK := 3m
soak:
	SOAK=$(SOAK) go test -race -count=1 -timeout=1h -v -run '^TestSoak$$' .

# Each fuzz target for FUZZTIME. What it finds is kept in testdata/fuzz, and from then on part of the tests.
FUZZTIME := 1m
fuzz:
	@set -e; for package in . ./jwks; do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "== $$target in $$package"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

# gofmt, go vet and staticcheck.
lint:
	@unformatted=$$(git ls-files '*.go' | xargs gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "gofmt -w $$unformatted"; exit 1; fi
	cd tools && go build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	@set -e; for module in $(MODULES); do \
		echo "== go vet, staticcheck in $$module"; \
		(cd $$module && go vet ./... && $(CURDIR)/bin/staticcheck ./...); \
	done

setup:
	@scripts/setup.sh
