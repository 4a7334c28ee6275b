# shellcheck shell=bash
# Debian's packages, for scripts that read this file with `.`.

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# debian_install PACKAGE...: installs packages that are not all there. Fails where there is no apt-get, where sudo asks for a
# password, or where a package cannot be had.
debian_install() {
    ! dpkg -s "$@" >/dev/null 2>&1 || return 0
    { command -v apt-get && as_root true; } >/dev/null 2>&1 || return 1
    as_root apt-get update -qq >&2 || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# debian_mirror: prints the mirror that this machine's apt uses, or nothing.
debian_mirror() {
    # shellcheck disable=SC2016 # apt-get puts the address in
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -E '/debian/?$' | sed -n 1p || true
}
