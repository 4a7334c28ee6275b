#!/bin/sh
# As RUSTC_WORKSPACE_WRAPPER, compiles this workspace's crates with the coverage instrumentation that guides libFuzzer.
# The passes are LLVM's own, so any stable compiler has them.
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
