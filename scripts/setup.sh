#!/usr/bin/env bash
# Installs what the tests need beside Go: Node.js 18 or newer with npm, and Chromium, for Stytch's own SDKs. Does nothing
# where they are there. On Debian it installs them as root; elsewhere it says what is missing.
set -euo pipefail

node_ok() {
  command -v npm >/dev/null && command -v node >/dev/null &&
    [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ]
}
chromium_ok() {
  [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
    command -v google-chrome >/dev/null || [ -d "/Applications/Google Chrome.app" ]
}

wanted=()
node_ok || wanted+=(nodejs npm)
chromium_ok || wanted+=(chromium)
if [ "${#wanted[@]}" -gt 0 ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "setup: installing ${wanted[*]} from Debian's packages"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
fi

missing=0
node_ok || { echo "setup: the tests need Node.js 18 or newer with npm: https://nodejs.org" >&2; missing=1; }
chromium_ok || { echo "setup: the tests need Chromium, or the path of a Chrome in CHROMIUM" >&2; missing=1; }
exit "$missing"
