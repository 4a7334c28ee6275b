"""Helpers that the peers' scripts share: paths, the interface of an engine, and medians of times."""

import contextlib
import fcntl
import glob
import lzma
import os
import shutil
import statistics
import sys
import time
import zipfile

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.normpath(os.path.join(here, "..", ".."))
sys.path.insert(0, os.path.join(root, "tests", "golden"))


class Unavailable(Exception):
    """The reason why an engine cannot run here."""


class Engine:
    """One engine with its model loaded, for one case.

    `features` takes images from host memory and returns x_norm [B, T, C] in host memory. An engine that can keep images
    and features on the device has `device`, which takes a number of runs and returns the median seconds of a pass.
    """

    device = None
    version = None

    def __init__(self, case):
        self.case = case

    def features(self):
        raise NotImplementedError

    def seconds(self, runs):
        """-> a dict of medians in seconds per image: `host_s`, `device_s` if the engine has it, and other values it
        reports."""
        host = self.timed(self.features, runs)
        device = self.device(runs) if self.device else None
        return self.an_image(host, device)

    def warm(self, run):
        """Runs at least once, and until an idle GPU has left its low clock."""
        end = time.perf_counter() + self.case["warm_s"]
        run()
        while time.perf_counter() < end:
            run()

    def timed(self, run, runs):
        """Warms up, then returns the median of `runs`, or of fewer if they take longer than a turn may."""
        self.warm(run)
        seconds, end = [], time.perf_counter() + self.case["turn_s"]
        while len(seconds) < runs and (not seconds or time.perf_counter() < end):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    def an_image(self, host, device):
        batch = self.case["batch"]
        return {"host_s": host / batch, "device_s": device and device / batch}


def summary(seconds):
    return {"median_s": statistics.median(seconds), "min_s": min(seconds)}


@contextlib.contextmanager
def once(path):
    """Gives a path at which to make PATH, which then appears whole; or None if it is there. Other processes wait."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.lock", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        unfinished = None if os.path.exists(path) else f"{path}.unfinished"
        yield unfinished
        if unfinished:
            os.replace(unfinished, path)


def carried(case, name):
    """Puts the wheel NAME-*.whl of the packed folder on the path. Without such a wheel, the installed package is
    used."""
    wheels = glob.glob(os.path.join(case["carried"] or "", "wheels", f"{name}-*.whl"))
    if not wheels:
        return False
    site = os.path.join(case["scratch"], "site", name)
    with once(site) as new:
        if new:
            with zipfile.ZipFile(wheels[0]) as wheel:
                wheel.extractall(new)
    sys.path.insert(0, site)
    return True


def program(case, name):
    """The path of the program NAME, unpacked from the packed folder, or built by cargo."""
    packed = os.path.join(case["carried"] or "", f"{name}.xz")
    if os.path.isfile(packed):
        path = os.path.join(case["scratch"], name)
        with once(path) as new:
            if new:
                with lzma.open(packed) as source, open(new, "wb") as out:
                    shutil.copyfileobj(source, out)
                os.chmod(new, 0o755)
        return path
    crate = name.removesuffix("-peer")
    path = os.path.join(here, crate, "target", "release", name)
    if not os.path.isfile(path):
        raise Unavailable(f"not built: cargo build --release --manifest-path benches/peers/{crate}/Cargo.toml")
    return path


def locked(crate, package):
    """The version of PACKAGE in CRATE's Cargo.lock."""
    with open(os.path.join(here, crate, "Cargo.lock")) as f:
        lines = f.read().splitlines()
    return lines[lines.index(f'name = "{package}"') + 1].split('"')[1]
