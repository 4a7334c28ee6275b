#!/usr/bin/env bash
# Unpacks a software Vulkan driver with cooperative matrices next to the system's own: Mesa of Debian trixie-backports.
# Nothing is installed (tests/unpack_mesa.sh). Prints the variables to export so that cargo runs test binaries against
# the driver:
#
#   eval "$(tests/trixie_vulkan.sh [FOLDER])" && cargo test --test kernels --test tiers
#
# FOLDER (default: target/trixie) is kept and used again. Exit code 3 means that this machine is not supported.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/unpack_mesa.sh "${1:-target/trixie}" trixie-backports lvp
echo "export MEDDINO_REQUIRE_TIER=cooperative8/f16"
