"""The package inside a program: threads, memory, Ctrl-C, forks, start-up."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import TINY

import meddino

IMAGE = np.linspace(-1, 1, 32 * 48, dtype=np.float32).reshape(1, 1, 32, 48)

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, or sends signals")


def python(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, **options)


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@linux
def test_a_thousand_calls_from_four_threads_give_one_result_and_keep_no_memory(tiny):
    image = np.repeat(np.repeat(IMAGE, 4, 2), 4, 3)
    expected = tiny.forward_features(image)["x_prenorm"]

    def calls(count: int) -> None:
        def call(_: int) -> bool:
            return np.array_equal(tiny.forward_features(image)["x_prenorm"], expected)

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(call, range(count)))

    calls(200)
    before = resident_bytes()
    calls(1000)
    grown = resident_bytes() - before
    # A result has 0.1 MB; a thousand that are kept would be 100.
    assert grown < 8 << 20, f"{grown >> 20} MB more"


def test_other_threads_run_while_a_model_computes(tiny):
    stop, steps = threading.Event(), []

    def count():
        while not stop.is_set():
            steps.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    image = np.zeros([4, 1, 448, 448], np.float32)
    began = time.perf_counter()
    tiny(image)
    ended = time.perf_counter()
    stop.set()
    thread.join()
    inside = [at for at in steps if began < at < ended]
    assert len(inside) > 5, f"{len(inside)} steps in {ended - began:.2f} s"


ENDLESS = """
import os, signal, sys, threading, time
import numpy as np
import meddino
# A shell starts its background jobs without Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
model = meddino.load("seeded:0", device="cpu")
x = np.zeros([10, 1, 224, 224], np.float32)
start = time.process_time()
def press():
    time.sleep(0.3)
    print(time.time(), flush=True)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press).start()
try:
    model(x)
except KeyboardInterrupt:
    print(time.time(), flush=True)
    before = time.process_time()
    while True:
        time.sleep(0.2)
        now = time.process_time()
        if now - before < 0.05:
            break
        before = now
    print(time.process_time() - start, flush=True)
    began = time.process_time()
    model(x[:1])
    print(time.process_time() - began, flush=True)
"""


@linux
def test_ctrl_c_ends_a_call_within_a_second_and_its_work_soon():
    done = python(ENDLESS)
    assert done.returncode == 0, done.stderr
    pressed, raised, spent, one = map(float, done.stdout.split())
    assert raised - pressed < 1.0
    # The batch would take 10 times as long as one image. The model can be called again.
    assert spent < 7 * one, f"{spent} s of computing in all, {one} s for one image"


def features_of(child, name: str) -> None:
    try:
        child.send(np.asarray(meddino.load(name, device="cpu")(IMAGE)))
    except Exception as error:
        child.send(error)


def in_a_fork(name: str):
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=features_of, args=(there, name))
    process.start()
    assert here.poll(60), "the forked process does not answer"
    answer = here.recv()
    process.join()
    return answer


FORKS = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
import meddino
from test_running import IMAGE, in_a_fork
forked = in_a_fork({name!r})
own = np.asarray(meddino.load({name!r}, device="cpu")(IMAGE))
assert np.array_equal(forked, own), forked
late = in_a_fork({name!r})
assert isinstance(late, RuntimeError) and "forked from it" in str(late), late
"""


@linux
def test_a_process_may_fork_before_it_computes_and_is_told_if_after():
    folder = os.path.dirname(__file__)
    done = python(FORKS.format(folder=folder, name=TINY))
    assert done.returncode == 0, done.stderr


def test_the_package_needs_only_numpy_and_little_time():
    code = (
        "import sys, time; t = time.perf_counter(); import meddino; print(time.perf_counter() - t); print(*sys.modules)"
    )
    took, modules = min((python(code).stdout.splitlines() for _ in range(5)), key=lambda lines: float(lines[0]))
    assert float(took) < 0.1
    assert not {"numpy", "torch", "tqdm", "ray"} & set(modules.split()), "they are imported when they are needed"


OVERLAP = """
import os, sys
import meddino
class Watch:
    def find_spec(self, name, *_):
        if name == "numpy":
            print(len(os.listdir("/proc/self/task")))
sys.meta_path.insert(0, Watch())
meddino.load("seeded:0", device="cpu")
"""


@linux
def test_numpy_is_imported_while_the_weights_are_loaded():
    done = python(OVERLAP)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1, "a thread that loads is there when the import begins"


@pytest.mark.parametrize(
    "start", [[sys.executable, "-m", "meddino"], [os.path.join(os.path.dirname(sys.executable), "meddino")]]
)
def test_the_command_comes_with_the_package(start, command):
    version = subprocess.run([*start, "--version"], check=True, capture_output=True, text=True)
    assert version.stdout == command("--version").stdout
    wrong = subprocess.run([*start, "features", "--wrong"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "unexpected argument '--wrong'" in wrong.stderr
    missing = subprocess.run([*start, "features", "missing.nii", "-c", TINY], capture_output=True, text=True)
    assert missing.returncode == 1 and missing.stderr.startswith("error: input missing.nii")


@linux
def test_ctrl_c_ends_the_command(tmp_path):
    np.save(tmp_path / "scan.npy", np.zeros([2000, 224, 224], np.float32))
    start = [sys.executable, "-m", "meddino", "features", "scan.npy", "-c", TINY, "--backend", "cpu", "--quiet"]
    with subprocess.Popen(start, cwd=tmp_path) as running:
        while len(os.listdir(tmp_path)) == 1 and running.poll() is None:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    assert os.listdir(tmp_path) == ["scan.npy"], "the unfinished file is removed"


class Storage(BaseHTTPRequestHandler):
    """A hub that has a file of 3 MB, which is no checkpoint."""

    content = bytes(range(256)) * 12_000

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", "0123456789" * 4)
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(self.content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[:1_000_000])
        time.sleep(0.2)  # so that the bar is seen on its way
        self.wfile.write(self.content[1_000_000:])

    def log_message(self, *_: object) -> None:
        pass


DOWNLOAD = """
import meddino
try:
    meddino.load(progress=True)
except ValueError as error:
    print(error)
"""


def test_a_download_moves_a_bar(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Storage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path),
            "NO_PROXY": "127.0.0.1",
        }
        done = python(DOWNLOAD, env=os.environ | hub)
        server.shutdown()
    assert done.returncode == 0 and "MedDINOv3-B-CT3M.pth" in done.stdout, done.stderr
    assert "1.00M/3.07M" in done.stderr, done.stderr
    assert (tmp_path / "hub/models--ricklisz123--MedDINOv3-ViTB-16-CT-3M/snapshots").is_dir()
