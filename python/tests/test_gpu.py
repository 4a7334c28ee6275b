"""A model on a GPU, software included: values, threads, Ctrl-C, and devices that fail."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from calls import CALLS
from conftest import REPOSITORY, TINY, relative_l2
from safetensors.numpy import load_file

import meddino

sys.path.insert(0, str(REPOSITORY / "tests/golden"))
import seeded

GOLDEN = load_file(Path(__file__).with_name("golden.safetensors"))
# That of the CPU, in test_model.py.
TOLERANCE = 1e-5

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="makes a driver for Linux, or sends signals")


@pytest.fixture(scope="module")
def gpu() -> meddino.Model:
    """A model on the first GPU, which may be software. Without one, these tests are skipped, or fail with
    MEDDINO_REQUIRE_GPU=1."""
    try:
        return meddino.load(TINY, device="gpu", rope="f32")
    except RuntimeError as problem:
        assert os.environ.get("MEDDINO_REQUIRE_GPU") != "1", problem
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def cpu() -> meddino.Model:
    return meddino.load(TINY, device="cpu", rope="f32")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return (2 * seeded.uniform("image", 2 * 3 * 32 * 50, 0).reshape(2, 3, 32, 50)).astype(np.float32)


def test_the_device_is_one_that_is_listed(gpu):
    listed = [device for device in meddino.devices() if device.name in gpu.device]
    assert listed, gpu.device
    again = meddino.load(TINY, device=str(listed[0].number))
    assert again.device == gpu.device


@pytest.mark.parametrize("name", CALLS)
def test_layers_are_those_of_pytorch(gpu, image, name):
    for index, layer in enumerate(gpu.get_intermediate_layers(image, **CALLS[name])):
        for part, values in enumerate(layer if isinstance(layer, tuple) else (layer,)):
            assert relative_l2(values, GOLDEN[f"{name}.{index}.{part}"]) < TOLERANCE, (index, part)


@pytest.mark.parametrize("masked", [False, True])
def test_features_are_those_of_pytorch(gpu, image, masked):
    masks = seeded.uniform("mask", 12, 0).reshape(2, 6) > 0.5 if masked else None
    features = gpu.forward_features(image, masks)
    assert features.pop("masks") is masks
    for name, values in features.items():
        assert relative_l2(values, GOLDEN[("masked." if masked else "features.") + name]) < TOLERANCE, name


def test_every_step_is_that_of_the_cpu(gpu, cpu, image):
    rows = meddino.verify(gpu, cpu, image)
    assert [row.tap for row in rows if row.tap.startswith("blocks.")] == ["blocks.0", "blocks.1", "blocks.2"]
    assert all(row.passes for row in rows), rows
    wrong = meddino.verify(gpu, meddino.load("seeded:1:tiny", device="cpu", rope="f32"), image)
    assert not any(row.passes for row in wrong if row.tap.startswith("blocks."))
    half = meddino.load(TINY, device="gpu", precision="f16", rope="f32")
    assert all(row.passes for row in meddino.verify(half, cpu, image))


def test_features_of_a_scan_are_those_of_the_command(gpu, command, tmp_path):
    look = {"size": 64, "tokens": ["cls", "patch"], "layers": [1]}
    gpu.write_features("phantom", tmp_path / "ours.safetensors", **look)
    flags = "--size 64 --tokens cls,patch --layers 1 --rope f32 --backend gpu".split()
    command("features", "phantom", "-c", TINY, *flags, "-o", tmp_path / "theirs.safetensors")
    ours, theirs = (load_file(tmp_path / f"{name}.safetensors") for name in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert np.array_equal(ours[name], theirs[name]), name
    ((slices, batch),) = gpu.features("phantom", **look)
    assert slices == [0] and all(np.array_equal(batch[name], ours[name]) for name in batch)


def test_results_own_their_memory(gpu, image):
    features = gpu.forward_features(image)
    before = features["x_prenorm"].copy()
    gpu.forward_features(-image)
    assert np.array_equal(features["x_prenorm"], before)
    assert type(features["x_prenorm"].base).__name__ == "PySliceContainer"


def test_threads_share_a_model(gpu, cpu, image):
    """Images of several shapes from four threads give what each gives alone."""
    images = [image, image[:1], image[:, :, :16], np.ascontiguousarray(image[..., :32])]
    alone = [gpu.forward_features(one)["x_prenorm"] for one in images]

    def call(number: int) -> bool:
        at = number % len(images)
        return np.array_equal(gpu.forward_features(images[at])["x_prenorm"], alone[at])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(100)))


def test_a_pickle_goes_to_the_same_device(gpu, image):
    again = pickle.loads(pickle.dumps(gpu))
    assert again.device == gpu.device and np.array_equal(again(image), gpu(image))


CTRL_C = """
import os, signal, threading, time
import numpy as np
import meddino
# A shell starts its background jobs without Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
model = meddino.load("seeded:0:tiny", device="gpu")
x = np.zeros([16, 1, 224, 224], np.float32)
expected = model(x[:1])
def press():
    time.sleep(0.2)
    print(time.time(), flush=True)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press).start()
try:
    while True:
        model(x)
except KeyboardInterrupt:
    print(time.time(), flush=True)
assert np.array_equal(model(x[:1]), expected)
"""


@linux
def test_ctrl_c_ends_a_call_within_a_second(gpu):
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    pressed, raised = map(float, done.stdout.split())
    assert raised - pressed < 1.0


def test_a_gpu_that_is_not_there_is_an_exception():
    code = f"import meddino; meddino.load({TINY!r}, device='gpu')"
    without = os.environ | {"WGPU_BACKEND": "vulkan", "VK_DRIVER_FILES": os.devnull, "VK_ICD_FILENAMES": os.devnull}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=without)
    assert done.returncode == 1 and "RuntimeError: gpu: " in done.stderr, done.stderr
    assert "`device` cpu" in done.stderr, "the advice has Python's names"


@pytest.fixture(scope="module")
def failing(gpu, tmp_path_factory):
    """Variables of the environment for a process whose driver fails when the process asks for it: failing_driver.c."""
    folder = tmp_path_factory.mktemp("driver")
    manifests = sorted(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"))
    compiler = shutil.which("cc")
    if not manifests or compiler is None:
        pytest.skip("the software driver of Mesa, or a C compiler, is not installed")
    library, source = folder / "failing_driver.so", Path(__file__).with_name("failing_driver.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    stated = json.loads(manifests[0].read_text())
    real, stated["ICD"]["library_path"] = stated["ICD"]["library_path"], str(library)
    manifest = folder / "failing_driver.json"
    manifest.write_text(json.dumps(stated))
    drivers = dict.fromkeys(["VK_DRIVER_FILES", "VK_ICD_FILENAMES"], str(manifest))
    return os.environ | drivers | {"MEDDINO_TEST_DRIVER": real, "WGPU_BACKEND": "vulkan"}


FAILING = """
import os, sys
import numpy as np
import meddino
function = sys.argv[1]
model = meddino.load("seeded:0:tiny", device="gpu")
x = np.linspace(-1, 1, 32 * 48, dtype=np.float32).reshape(1, 1, 32, 48)
expected = model(x)
def call(name, images):
    try:
        model(images)
        print(name, "no error")
    except Exception as error:
        print(name, type(error).__name__, error)
os.environ["MEDDINO_TEST_FAILS"] = function
# Larger, so that memory is needed.
call("failing:", np.zeros([8, 1, 1792, 1792], np.float32))
try:
    meddino.load("seeded:0:tiny", device="gpu")
    print("loading: no error")
except Exception as error:
    print("loading:", type(error).__name__, error)
del os.environ["MEDDINO_TEST_FAILS"]
call("afterwards:", x)
assert np.array_equal(meddino.load("seeded:0:tiny", device="gpu")(x), expected)
print("opened again")
"""


def after_a_failure(function: str, failing) -> dict[str, str]:
    """What calls said while the driver's ``function`` failed, and afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", FAILING, function], capture_output=True, text=True, timeout=120, env=failing
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line) | {"end": done.stdout}


@linux
def test_a_lost_device_is_an_exception_and_may_be_opened_again(failing):
    said = after_a_failure("vkQueueSubmit", failing)
    assert said["failing"].startswith("RuntimeError gpu: ") and "lost" in said["failing"], said
    assert "open it again" in said["failing"] and "`device` cpu" in said["failing"], said
    assert said["loading"].startswith("RuntimeError gpu: "), said
    assert said["afterwards"].startswith("RuntimeError gpu: "), "a lost device stays lost"
    assert said["end"].endswith("opened again\n")


@linux
def test_a_device_without_memory_is_an_exception_and_goes_on(failing):
    said = after_a_failure("vkAllocateMemory", failing)
    assert said["failing"].startswith("MemoryError gpu: ") and "smaller image (`size`)" in said["failing"], said
    assert said["loading"].startswith("RuntimeError gpu: ") and "memory" in said["loading"], "it cannot be opened"
    assert said["afterwards"] == "no error", said
    assert said["end"].endswith("opened again\n")
