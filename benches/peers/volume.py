"""Slices a second through a volume, meddino and PyTorch in turns.

    python benches/peers/volume.py --binary target/release/meddino --out volume.json
        [--slices 300] [--size 512] [--precision f16] [--sinks disk,ram,array] [--rounds 3] [--seconds N]

Both begin with weights on the device and one batch already computed, and end when the features of every slice (class
token, storage tokens, patch tokens, in f32) are in the sink: `disk`, one safetensors file in --folder, synchronised; `ram`,
the same file in /dev/shm; or `array`, PyTorch's alone: an array in the process. Both read slices from the host's memory.
meddino (`bench --slices`) also windows, resizes and normalises each slice, and computes the file's provenance. PyTorch
gets slices [3, N, N] normalised in f32.

PyTorch does it as its documentation advises: slices go through pinned memory, and uploads, passes and downloads have
streams of their own, so that they overlap. Three batches are under way, and a second thread takes features to the sink.
Besides eager, torch.compile (mode reduce-overhead: CUDA graphs) is measured. Before timing,
features that went through the streams are compared with those of a plain pass.

Needs torch, numpy and safetensors.
"""

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import torch

import common
import model
import torch_model

UNDER_WAY = 3


class File:
    """A safetensors file of features as meddino's: the outputs one after another, each [slices, ...] in f32."""

    def __init__(self, path, slices, tokens, width):
        self.shapes = {"x_norm_clstoken": [slices, width], "x_storage_tokens": [slices, model.PREFIX - 1, width], "x_norm_patchtokens": [slices, tokens - model.PREFIX, width]}
        header, self.begins, at = {}, {}, 0
        for name, shape in self.shapes.items():
            end = at + 4 * int(np.prod(shape))
            header[name], self.begins[name], at = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}, at, end
        words = json.dumps(header).encode()
        words += b" " * (-len(words) % 8)
        self.start = 8 + len(words)
        self.file = open(path, "wb", buffering=0)
        self.file.write(len(words).to_bytes(8, "little") + words)

    def put(self, first, features):
        parts = {"x_norm_clstoken": slice(0, 1), "x_storage_tokens": slice(1, model.PREFIX), "x_norm_patchtokens": slice(model.PREFIX, None)}
        for name, tokens in parts.items():
            each = 4 * int(np.prod(self.shapes[name][1:]))
            at = self.start + self.begins[name] + first * each
            if os.pwritev(self.file.fileno(), [image[tokens] for image in features], at) != each * len(features):
                raise OSError("the disk took a part of a batch only")

    def finish(self):
        os.fsync(self.file.fileno())
        self.file.close()


class Array:
    def __init__(self, slices, tokens, width):
        self.values = np.zeros((slices, tokens, width), np.float32)
        self.values.fill(0)  # takes the memory now

    def put(self, first, features):
        self.values[first : first + len(features)] = features

    def finish(self):
        pass


class Buffers:
    """One batch under way: pinned memory, memory on the device, and the events at which each is free."""

    def __init__(self, images, features):
        pinned = lambda like: torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
        self.from_host, self.to_host = pinned(images), pinned(features)
        self.image, self.features = torch.empty_like(images), torch.empty_like(features)
        self.uploaded, self.computed, self.downloaded = (torch.cuda.Event() for _ in range(3))


class PyTorch:
    """The model on CUDA in f32, f16 or bf16, eager or compiled."""

    def __init__(self, case, dtype, compiled):
        torch_model.exact()
        net = torch_model.Model(case, dtype, "cuda")
        self.net = torch.compile(net, fullgraph=True, mode="reduce-overhead") if compiled else net
        self.up, self.down, self.main = torch.cuda.Stream(), torch.cuda.Stream(), torch.cuda.current_stream()
        self.batch = case["batch"]
        images = torch.zeros(self.batch, 3, case["size"], case["size"], device="cuda")
        with torch.inference_mode():
            for _ in range(4):  # compiled: it runs once, records CUDA's graph once, and then replays
                features = self.net(images).clone()
            self.free = [Buffers(images, features) for _ in range(UNDER_WAY)]
        self.shape = features.shape
        torch.cuda.synchronize()

    def submit(self, buffers, images):
        """Starts the upload, the pass and the download of a batch, and does not wait."""
        buffers.from_host.numpy()[:] = images
        with torch.cuda.stream(self.up):
            buffers.image.copy_(buffers.from_host, non_blocking=True)
            buffers.uploaded.record()
        self.main.wait_event(buffers.uploaded)
        buffers.features.copy_(self.net(buffers.image))
        buffers.computed.record()
        with torch.cuda.stream(self.down):
            self.down.wait_event(buffers.computed)
            buffers.to_host.copy_(buffers.features, non_blocking=True)
            buffers.downloaded.record()

    def run(self, slices, sink):
        """Computes the features of every slice into the sink -> seconds."""
        free, done, failed = queue.Queue(), queue.Queue(), []
        for buffers in self.free:
            free.put(buffers)

        def take():
            while entry := done.get():
                first, buffers = entry
                try:
                    buffers.downloaded.synchronize()
                    sink.put(first, buffers.to_host.numpy()[: len(slices) - first])
                except Exception as error:
                    failed.append(error)
                free.put(buffers)

        begun = time.perf_counter()
        taker = threading.Thread(target=take)
        taker.start()
        with torch.inference_mode():
            for first in range(0, len(slices), self.batch):
                buffers = free.get()
                images = slices[first : first + self.batch]
                if len(images) < self.batch:  # the last batch is filled up, so that its shape stays
                    images = np.concatenate([images, np.zeros((self.batch - len(images), *images.shape[1:]), np.float32)])
                self.submit(buffers, images)
                done.put((first, buffers))
        done.put(None)
        taker.join()
        sink.finish()
        if failed:
            raise failed[0]
        return time.perf_counter() - begun

    def plain(self, images):
        with torch.inference_mode():
            return self.net(torch.from_numpy(images).cuda()).cpu().numpy()


def check(engine, slices):
    """Raises an error if features that went through the streams differ from a plain pass, in the first or the last
    batch of a volume that ends within a batch."""
    slices = slices[: (UNDER_WAY + 2) * engine.batch + 1]
    sink = Array(len(slices), *engine.shape[1:])
    engine.run(slices, sink)
    for first in (0, len(slices) - 1):
        images = np.zeros((engine.batch, *slices.shape[1:]), np.float32)
        here = slices[first : first + engine.batch]
        images[: len(here)] = here
        want = engine.plain(images)[: len(here)]
        away = float(np.linalg.norm(sink.values[first : first + len(here)] - want) / np.linalg.norm(want))
        if not away <= 1e-6:
            raise ValueError(f"the features of slice {first} are {away:.1e} from a plain pass")


def torch_seconds(engine, slices, sink, folder):
    if sink == "array":
        return engine.run(slices, Array(len(slices), *engine.shape[1:]))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return engine.run(slices, File(os.path.join(scratch, "volume.safetensors"), len(slices), *engine.shape[1:]))


def ours(a, batch, folder):
    """-> meddino's slices a second and the GPU's idle share, as `bench --slices` prints them."""
    command = [a.binary, "-q", "bench", "-c", "seeded:0", "--backend", "gpu", "--size", a.size, "--batch", batch, "--precision", a.precision, "--slices", a.slices, "--json"]
    env = dict(os.environ, **({"TMPDIR": folder} if folder else {}))
    done = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True)
    if done.returncode:
        raise common.Unavailable(done.stderr.strip()[-400:])
    answer = json.loads(done.stdout)
    return {key: answer[key] for key in ("slices_per_s", "gpu_idle_share", "tier", "device")}


def rows_of(a, scratch):
    """Loads every engine -> (name, batch, sink) -> a function that measures once; and the reasons of the others."""
    case = {"scratch": scratch, "depth": a.depth, "size": a.size, "backend": "gpu", "carried": None}
    model.write_weights(case)
    slices = np.random.default_rng(0).random((a.slices, 3, a.size, a.size), np.float32)
    folders = {"disk": a.folder, "ram": "/dev/shm"}
    rows, not_run = {}, {}
    for entry in a.engines.split(","):
        name, batch = entry.split(":")[0], int(entry.split(":")[1])
        if name == "meddino":
            for sink in a.sinks.split(","):
                if sink != "array":
                    rows[name, batch, sink] = lambda batch=batch, sink=sink: ours(a, batch, folders[sink])
            continue
        try:
            engine = PyTorch(case | {"batch": batch}, a.precision, name == "torch.compile")
            check(engine, slices)
        except Exception as error:
            not_run[f"{name}, batch {batch}"] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
            continue
        for sink in a.sinks.split(","):
            rows[name, batch, sink] = lambda engine=engine, sink=sink: {"slices_per_s": a.slices / torch_seconds(engine, slices, sink, folders.get(sink))}
    return rows, not_run


def measure(rows, not_run, a, end):
    """Measures the rows in turns -> a row for each with its rounds."""
    answers = {key: [] for key in rows}
    for key, one in list(rows.items()) * a.rounds:
        named = "{}, batch {}, {}".format(*key)
        if named in not_run or time.perf_counter() > end:
            continue
        try:
            answers[key].append(one())
        except (OSError, RuntimeError, common.Unavailable) as error:
            not_run[named] = f"{type(error).__name__}: {error}"
    done = []
    for (name, batch, sink), given in answers.items():
        if given:
            speeds = [answer["slices_per_s"] for answer in given]
            done.append({"engine": name, "batch": batch, "sink": sink, **given[-1], "slices_per_s": statistics.median(speeds), "rounds": speeds})
        else:
            not_run.setdefault(f"{name}, batch {batch}, {sink}", "the time was up (--seconds)")
    return done


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--binary", default=os.path.join(common.root, "target", "release", "meddino"))
    ap.add_argument("--slices", type=int, default=300)
    ap.add_argument("--size", type=int, default=512)
    ap.add_argument("--precision", choices=["f32", "f16"], default="f16")
    ap.add_argument("--engines", default="meddino:4,PyTorch:4,PyTorch:16,torch.compile:4", help="engine:batch, ...")
    ap.add_argument("--sinks", default="disk,ram,array")
    ap.add_argument("--folder", help="where the sink `disk` is; default: TMPDIR")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=86400, help="no measurement begins later; what was not run is listed")
    ap.add_argument("--loaded", help="a file to write once everything is loaded")
    ap.add_argument("--after", help="begin to measure once this file is there")
    ap.add_argument("--depth", type=int, default=12, help="fewer blocks of PyTorch's model, to try things out")
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    end = time.perf_counter() + a.seconds
    if not torch.cuda.is_available():
        sys.exit("volume.py: there is no CUDA device")
    with tempfile.TemporaryDirectory() as scratch:
        rows, not_run = rows_of(a, scratch)
        if a.loaded:
            open(a.loaded, "w").close()
        while a.after and not os.path.exists(a.after) and time.perf_counter() < end:
            time.sleep(0.1)
        done = measure(rows, not_run, a, end)
    report = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "slices": a.slices, "size": a.size, "precision": a.precision}
    with open(a.out, "w") as f:
        json.dump(report | {"rows": done, "not_run": not_run}, f, indent=1)
    for row in sorted(done, key=lambda row: -row["slices_per_s"]):
        print(f"{row['engine']:<14} batch {row['batch']:>2}  {row['sink']:<6} {row['slices_per_s']:8.1f} slices a second")
    for name, reason in not_run.items():
        print(f"{name} did not run: {reason}")


if __name__ == "__main__":
    main()
