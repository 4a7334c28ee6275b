#!/usr/bin/env bash
# Builds the Python package, installs it into a fresh virtual environment, and runs its tests and the checks of its types.
# MEDDINO_COMMAND is the command that results are compared with, if it is already built. Arguments go to pytest. Without a Python of 3.10 or later, or a network for pip, it says so and ends with 3.
# Tests of the package beside other libraries are skipped where those are not installed. WITH names libraries to install:
#   WITH='scikit-learn torch ray[data]' python/tests/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() { echo "SKIPPED: the tests of the Python package, because $1" >&2; exit 3; }

python=${PYTHON:-python3}
"$python" -c 'import sys, venv; assert sys.version_info >= (3, 10)' 2>/dev/null || skip "$python is not Python 3.10 or later with venv"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/venv" || skip "no virtual environment can be made"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'maturin>=1.16,<2' mypy numpy pytest safetensors tqdm ||
    skip "pip cannot install maturin, NumPy and pytest"
if [ -n "${WITH:-}" ]; then
    read -ra more <<<"$WITH"
    "$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check "${more[@]}" || skip "pip cannot install $WITH"
fi

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
if [ -z "${MEDDINO_COMMAND:-}" ]; then
    cargo build --locked --bin meddino -p meddino -p meddino-python
    MEDDINO_COMMAND=$CARGO_TARGET_DIR/debug/meddino
fi
"$scratch/venv/bin/maturin" build --quiet --locked --profile dev --manifest-path python/Cargo.toml --interpreter "$scratch/venv/bin/python" --out "$scratch"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$scratch"/meddino-*.whl

# From another folder, so that the installed package is what is tested.
cp -r python/tests python/examples python/pyproject.toml "$scratch/"
cd "$scratch"
export MEDDINO_COMMAND MEDDINO_REPOSITORY=$OLDPWD
venv/bin/python -m mypy
venv/bin/python -m mypy.stubtest meddino._meddino
venv/bin/python -m pytest -q "$@"
