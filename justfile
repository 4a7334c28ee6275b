# The commands that CI runs, by name. `just check` is all of them.

# Everything CI checks.
check: fmt clippy lean test docs

# Formatting.
fmt:
    cargo fmt --check

# Lints, warnings denied.
clippy:
    cargo clippy --locked --all-targets --all-features -- -D warnings

# The library without default features builds by itself.
lean:
    cargo clippy --locked --lib --no-default-features -- -D warnings

# All tests.
test:
    tests/run.sh

# Documentation, warnings denied.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features

# Licences and advisories (needs cargo-deny).
deny:
    cargo deny --workspace check

# The archives of a release, in target/dist.
dist:
    packaging/dist.sh

# Criterion benchmarks.
bench:
    cargo bench
