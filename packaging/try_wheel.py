#!/usr/bin/env python3
"""Checks a wheel: that its library keeps what its name promises, and that it works where there is NumPy alone.

    packaging/try_wheel.py WHEEL [PYTHON...]   (default: this Python)

- The name says CPython 3.10 and later (abi3), and glibc 2.28 and later on x86-64 (manylinux_2_28). `abi3audit` and
  `auditwheel`, which pip installs, find nothing in the library against it.
- Its library is that of a release, not of a build for tests.
- In a fresh virtual environment of each PYTHON, `import meddino` takes less than 0.1 s, both ways to the command line
  work, and a model computes features.

Prints sizes and times. Ends with 1 at the first thing that is not so.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

GLIBC = 28
TAGS = f"cp310-abi3-manylinux_2_{GLIBC}_x86_64"
IMPORT_SECONDS = 0.1
# A library of cargo's profile `dev` has 79 MB, and computes four times as long.
LIBRARY_BYTES = 40e6
FILES = ["meddino/_meddino.abi3.so", "meddino/_meddino.pyi", "meddino/py.typed", "meddino/heads/__init__.py"]
LICENCES = ["LICENSE-APACHE", "LICENSE-MIT", "LICENCES-OF-DEPENDENCIES.txt"]

IMPORT = "import time; began = time.perf_counter(); import meddino; print(time.perf_counter() - began)"
FEATURES = """
import importlib.metadata
import meddino
model = meddino.load("seeded:0:tiny", device="cpu")
((slices, batch),) = model.features("phantom", size=64)
assert slices == [0] and batch["x_norm_patchtokens"].shape == (1, 16, 128)
print(*sorted(package.metadata["Name"] for package in importlib.metadata.distributions()))
"""


def output(*command):
    """What a command prints. Ends if it fails."""
    # PYTHONPATH would put other packages beside the wheel's.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=env)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: ended with {done.returncode}: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def expect(is_so, what, found):
    if not is_so:
        sys.exit(f"the wheel: expected {what}, found {found}")


def environment(python, folder, *packages):
    """Makes a virtual environment with `packages`, and returns the folder of its programs."""
    output(python, "-m", "venv", folder)
    programs = pathlib.Path(folder, "bin")
    output(programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    return programs


def files(wheel):
    """Checks the name and the files of the wheel, and returns its version."""
    _, version, tags = wheel.stem.split("-", 2)
    expect(tags == TAGS, f"the tags {TAGS}", tags)
    packed = zipfile.ZipFile(wheel)
    names = packed.namelist()
    for name in FILES + [f"meddino-{version}.dist-info/licenses/{name}" for name in LICENCES]:
        expect(name in names, name, " ".join(names))
    library = packed.getinfo(FILES[0])
    expect(library.file_size < LIBRARY_BYTES, f"a library of a release, less than {LIBRARY_BYTES / 1e6:.0f} MB", f"{library.file_size / 1e6:.1f} MB")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB; its library: {library.file_size / 1e6:.1f} MB")
    return version


def library(wheel, programs):
    """Checks that the library needs no newer CPython and no newer glibc than the name says, and no other libraries."""
    output(programs / "abi3audit", "--strict", "--assume-minimum-abi3", "3.10", wheel)
    found = json.loads(output(programs / "auditwheel", "show", "--json", wheel))
    newest = [int(number) for number in re.findall(r"GLIBC_2\.(\d+)", str(found["versioned_symbols"]))]
    expect(max(newest) <= GLIBC, f"nothing newer than glibc 2.{GLIBC}", f"symbols of 2.{max(newest)}")
    expect(found["overall_tag"] in TAGS and not found["external_libs"], f"a library for {TAGS}", found)
    print(f"the library: abi3 of CPython 3.10; glibc 2.{max(newest)}; {', '.join(sorted(found['versioned_symbols']))}")


def works(programs, version):
    """Checks that the package works in an environment with NumPy alone."""
    python, command = programs / "python", programs / "meddino"
    seconds = sorted(float(output(python, "-c", IMPORT)) for _ in range(9))
    expect(seconds[4] < IMPORT_SECONDS, f"an import in less than {IMPORT_SECONDS} s", f"{seconds[4]:.3f} s")
    for start in [[command], [python, "-m", "meddino"]]:
        said = output(*start, "--version")
        expect(said == f"meddino {version}\n", f"the version {version}", said)
    installed = output(python, "-c", FEATURES).split()
    expect(set(installed) <= {"meddino", "numpy", "pip", "setuptools"}, "NumPy alone beside it", " ".join(installed))
    print(f"{output(python, '--version').strip()}: works; import meddino takes {seconds[4]:.4f} s, the median of 9")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    wheel, pythons = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:] or [sys.executable]
    version = files(wheel)
    with tempfile.TemporaryDirectory() as folder:
        library(wheel, environment(sys.executable, f"{folder}/audit", "abi3audit", "auditwheel"))
        for number, python in enumerate(pythons):
            works(environment(python, f"{folder}/{number}", "numpy", wheel), version)


main()
