#!/usr/bin/env bash
# Installs what the tests need beside Go: Node.js 18 or newer with npm, for Stytch's own SDKs. Does nothing where it is there.
set -euo pipefail

node_ok() {
  command -v npm >/dev/null && command -v node >/dev/null &&
    [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ]
}

if ! node_ok && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "setup: installing Node.js from Debian's packages"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
fi
if ! node_ok; then
  echo "setup: the tests need Node.js 18 or newer with npm: https://nodejs.org" >&2
  exit 1
fi
