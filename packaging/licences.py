#!/usr/bin/env python3
"""Prints the licences of everything that is linked into a package of this project for one target, from the packages that
cargo has.

    packaging/licences.py TARGET [PACKAGE]   (default: meddino, the command)

Fails if a package has no text of its licence and the licence is none whose text this project has.
"""

import json
import pathlib
import subprocess
import sys

PROJECT = pathlib.Path(__file__).resolve().parent.parent
NAMES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")
# Texts for packages that bring none: this project's own, but for the line of the copyright. CC0 asks for none.
OWN_TEXTS = {"MIT": "LICENSE-MIT", "Apache-2.0": "LICENSE-APACHE", "CC0-1.0": None}


def linked(target, name="meddino"):
    """The packages by others that are linked into package `name`: its dependencies, and theirs, as far as they are no build
    tools."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found, new = set(), [next(id for id, package in packages.items() if package["name"] == name)]
    while new:
        id = new.pop()
        if id not in found:
            found.add(id)
            new += [d["pkg"] for d in nodes[id]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]
    by_others = (packages[id] for id in found if packages[id]["source"])
    return sorted(by_others, key=lambda package: (package["name"], package["version"]))


def texts(package):
    """The texts of a package's licence."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name.upper().startswith(NAMES))
    if files:
        return [file.read_text(encoding="utf-8", errors="replace") for file in files]
    choices = [choice.strip() for choice in (package["license"] or "").replace("/", " OR ").split(" OR ")]
    known = [choice for choice in choices if choice in OWN_TEXTS]
    if not known:
        sys.exit(f"{package['name']} {package['version']}: expected a text of its licence or one of {', '.join(OWN_TEXTS)}, "
                 f"found {package['license']}; add the text")
    if OWN_TEXTS[known[0]] is None:
        return []
    text = (PROJECT / OWN_TEXTS[known[0]]).read_text(encoding="utf-8")
    holder = f"Copyright (c) {', '.join(package['authors']) or 'its authors'}"
    return ["\n".join(holder if line.startswith("Copyright (c)") else line for line in text.splitlines())]


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    packages = linked(*sys.argv[1:])
    print(f"meddino contains {len(packages)} packages by others, under these licences. Equal texts are printed once.\n")
    holders = {}
    for package in packages:
        name = f"{package['name']} {package['version']} ({package['license']}), {package['repository'] or ', '.join(package['authors'])}"
        print(name)
        for text in texts(package):
            holders.setdefault(text.strip(), []).append(name)
    for text, names in holders.items():
        print("\n" + "=" * 80 + "\n" + "\n".join(names) + "\n" + "-" * 80 + "\n" + text)


main()
