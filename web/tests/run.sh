#!/usr/bin/env bash
# Builds the browser's part and tests it in headless Chromium: values against the CPU's, errors, weights in shards, the page.
# Chromium draws with SwiftShader, so that no GPU is needed. Installs chromium if it runs as root or sudo needs no password,
# and playwright-core, which drives Chromium, into target/web-tests. Where something cannot be had, says so and exits with 3.
#
#   web/tests/run.sh [TEST...]   tests whose names contain one of these words (default: all)
#
# Screenshots go to target/web-tests/shots. MEDDINO_COMMAND is the command that values are compared with, if it is already
# built.
set -euo pipefail
cd "$(dirname "$0")/../.."
web/build.sh
skip() { echo "SKIPPED: the tests in a browser, for want of $*" >&2; exit 3; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
command -v node >/dev/null && command -v npm >/dev/null || skip "node and npm"
if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && as_root true 2>/dev/null; then
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null || true
fi
chromium=$(command -v chromium || command -v google-chrome) || skip "chromium"
desk=target/web-tests
mkdir -p "$desk"
[ -d "$desk/node_modules/playwright-core" ] || npm install --silent --no-audit --no-fund --prefix "$desk" playwright-core@1.57.0 >/dev/null || skip "playwright-core"
if [ -z "${MEDDINO_COMMAND:-}" ]; then
    cargo build --locked
    MEDDINO_COMMAND=target/debug/meddino
fi
export MEDDINO_COMMAND
exec env CHROMIUM="$chromium" node web/tests/main.mjs "$@"
