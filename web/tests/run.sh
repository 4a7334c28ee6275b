#!/usr/bin/env bash
# Builds the browser's part and tests it in headless Chromium: values against the CPU's, errors, weights in shards, the page.
# Chromium draws with SwiftShader, so that no GPU is needed. Firefox computes on the CPU; where it cannot be had, its test says
# that it is skipped. Installs chromium and firefox-esr if it runs as root or sudo needs no password, and playwright-core, which
# drives Chromium, into target/web-tests. Where something else cannot be had, says so and exits with 3.
#
#   web/tests/run.sh [TEST...]   tests whose names contain one of these words (default: all)
#
# Screenshots go to target/web-tests/shots. MEDDINO_COMMAND is the command that values are compared with, if it is already
# built.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/debian.sh
web/build.sh
skip() { echo "SKIPPED: the tests in a browser, for want of $*" >&2; exit 3; }
command -v node >/dev/null && command -v npm >/dev/null || skip "node and npm"
for browser in chromium firefox-esr; do command -v "$browser" >/dev/null || debian_install "$browser" fonts-dejavu-core || true; done
chromium=$(command -v chromium || command -v google-chrome) || skip "chromium"
desk=target/web-tests
mkdir -p "$desk"
grep -qs '"version": "1.57.0"' "$desk/node_modules/playwright-core/package.json" ||
    npm install --silent --no-audit --no-fund --prefix "$desk" playwright-core@1.57.0 >/dev/null || skip "playwright-core"
if [ -z "${MEDDINO_COMMAND:-}" ]; then
    cargo build --locked
    MEDDINO_COMMAND=target/debug/meddino
fi
export MEDDINO_COMMAND
FIREFOX=$(command -v firefox-esr || command -v firefox || true)
export FIREFOX
exec env CHROMIUM="$chromium" node web/tests/main.mjs "$@"
