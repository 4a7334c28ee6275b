# shellcheck shell=bash
# Cargo for other systems than this machine's, for scripts that read this file with `.` from the project's root. The
# compiler is Debian's, whose package of std's source lets it build std for any system. Scripts install what they need
# if they run as root or sudo needs no password.
. tests/debian.sh

# foreign_needs WHAT PACKAGE...: installs Debian's compiler and these packages, or says that WHAT is skipped and exits
# with 3.
foreign_needs() {
    local what=$1
    shift
    set -- rustc-web cargo-web rust-web-src lld "$@"
    debian_install "$@" || { echo "SKIPPED: $what, for want of Debian's packages $*" >&2; exit 3; }
}

# foreign_cargo COMMAND ARGUMENT...: cargo with Debian's compiler, which builds std too. That needs unstable flags, which
# RUSTC_BOOTSTRAP=1 enables in a stable compiler. Without debug information, because the build folders are large.
foreign_cargo() {
    local command=$1
    shift
    PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_PROFILE_DEV_DEBUG=0 \
        /usr/bin/cargo "$command" --locked -Zbuild-std=std,panic_abort "$@"
}
