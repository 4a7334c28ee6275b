"""A local Ray cluster of two workers, of which one is killed in the middle. Runs only where Ray is installed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
from conftest import TINY

import meddino.ray

ray = pytest.importorskip("ray", reason="Ray is not installed")

pytestmark = pytest.mark.filterwarnings("default")

SCANS = 40


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(SCANS):
        hu = np.random.default_rng(number).integers(-1000, 1000, (6, 64, 64)).astype(np.int16)
        np.save(folder / f"scan{number:02}.npy", hu)
    (folder / "broken.npy").write_text("no scan")
    return folder


@pytest.fixture
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def run(scans, folder, pids):
    pids.mkdir(exist_ok=True)

    # In a function, so that Ray hands on the class itself: a worker cannot import this file.
    class Watched(meddino.ray.Features):
        """Leaves its process's number in a folder."""

        def __init__(self, *, pids: str, **arguments):
            super().__init__(**arguments)
            open(os.path.join(pids, str(os.getpid())), "w").close()

    paths = sorted(str(path) for path in scans.iterdir())
    rows = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=len(paths)).map_batches(
        Watched,
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=1,
        fn_constructor_kwargs={
            "pids": str(pids),
            "folder": str(folder),
            "checkpoint": TINY,
            "device": "cpu",
            "options": {"size": 160, "tokens": ["cls", "patch"]},
        },
    )
    return {os.path.basename(row["path"]): row for row in rows.take_all()}


def kill_one(folder, pids, killed):
    """Kills a worker once a quarter of the files are there."""
    while not folder.is_dir() or len(list(folder.glob("scan*.safetensors"))) < SCANS // 4:
        time.sleep(0.02)
    killed.append(int(sorted(os.listdir(pids))[0]))
    os.kill(killed[0], signal.SIGKILL)


def test_a_killed_worker_costs_no_features(scans, tmp_path, command, cluster):
    folder, pids, killed = tmp_path / "ours", tmp_path / "pids", []
    killer = threading.Thread(target=kill_one, args=(folder, pids, killed), daemon=True)
    killer.start()
    began = time.monotonic()
    rows = run(scans, folder, pids)
    killer.join(60)
    print(
        f"\n{len(rows)} scans in {time.monotonic() - began:.1f} s; killed {killed}; {len(os.listdir(pids))} workers started"
    )
    for worker in sorted({row["worker"] for row in rows.values()}):
        mine = [row for row in rows.values() if row["worker"] == worker]
        counts = {status: sum(row["status"] == status for row in mine) for status in ("written", "skipped", "failed")}
        print(worker, counts, f"{sum(row['seconds'] for row in mine):.2f} s")
    assert killed and len(os.listdir(pids)) == 3, "one more worker was started"

    broken = rows.pop("broken.npy")
    assert broken["status"] == "failed" and broken["error"].startswith("ValueError: input ") and broken["output"] == ""
    assert len(rows) == SCANS and {row["status"] for row in rows.values()} <= {"written", "skipped"}
    (scans / "broken.npy").unlink()
    command(
        "features",
        scans,
        "--out-dir",
        tmp_path / "theirs",
        "-c",
        TINY,
        "--backend",
        "cpu",
        "--size",
        160,
        "--tokens",
        "cls,patch",
    )
    names = sorted(path.name for path in (tmp_path / "theirs").glob("*.safetensors"))
    assert len(names) == SCANS
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.jsonl", *names], (
        "each is there once, and nothing else"
    )
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes(), name
    recorded = [json.loads(line)["output"] for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert sorted(set(recorded)) == names

    again = run(scans, folder, tmp_path / "pids2")
    assert {row["status"] for row in again.values()} == {"skipped"}
    # The command goes on with the same folder.
    said = command(
        "features", scans, "--out-dir", folder, "-c", TINY, "--backend", "cpu", "--size", 160, "--tokens", "cls,patch"
    )
    assert f"{SCANS} of {SCANS} cases are skipped" in said.stderr
