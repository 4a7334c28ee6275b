"""Compares meddino with its peers on this machine: the same seeded weights and images, interleaved in one run.

    cargo build --release
    cargo build --release --manifest-path benches/peers/candle/Cargo.toml --config 'build.rustflags=["-Ctarget-cpu=native"]'
    python benches/peers/run.py --backend cpu --out benches/results/cpu.json
    python benches/peers/run.py --backend cpu --precision bf16 --out benches/results/cpu_bf16.json

    benches/peers/pack.sh target/peers          (the GPU's peers: wheels, burn's program, IREE's modules)
    python benches/peers/run.py --backend gpu --carried target/peers --out benches/results/gpu_f32.json
    python benches/peers/run.py --backend gpu --carried target/peers --precision f16 --out benches/results/gpu_f16.json

MEDDINO_CPU=avx2 holds meddino, PyTorch and OpenVINO to AVX2 on a CPU that has more.

Needs torch, numpy and safetensors; onnx and onnxscript for the ONNX engines; onnxruntime and openvino on a CPU.
An engine that cannot run here is listed with the reason, in the table and in the JSON.

Before timing, every engine's features are compared with PyTorch's in f32 (relative L2 of x_norm, f32 RoPE). An engine
beyond the tolerance is not timed, and the exit code is 1. Then each engine in turn warms up once and runs a few times,
round after round. A round gives the engine's median, and the table shows the median of the rounds. Seconds are per
image, from the host's memory to features in the host's memory. `device` is the pass alone, with image and features on
the device, if the engine can measure it. A ratio is the median, over the rounds, of a peer's seconds divided by ours in
that round. Each engine has `--threads` threads. A pause before it lets the others' threads go to sleep.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

import common
import engines
import model

TOLERANCE = {"f32": 2e-5, "bf16": 3e-2, "f16": 3e-2}  # any bf16 in the pass costs at least 1e-3


def held():
    """The environment in which libraries keep to the instruction set that MEDDINO_CPU names. oneDNN (in PyTorch and
    OpenVINO), MKL and PyTorch's own kernels obey. ONNX Runtime and candle have no such switch."""
    env = dict(os.environ)
    if env.get("MEDDINO_CPU") == "avx2":
        env |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    return env


class Worker:
    """An engine in its own process (worker.py). If it ends early or takes longer than `limit` seconds, it is not
    measured, and `reason` says why."""

    def __init__(self, name, module, options, case, limit):
        self.limit, self.reason, self.last = limit, None, ""
        self.out = os.path.join(case["folder"], f"{name.replace(' ', '_')}.npy")
        job = {"module": module, "options": options, "case": case, "out": self.out}
        command = [sys.executable, os.path.join(common.here, "worker.py"), json.dumps(job)]
        self.log = open(os.path.join(case["folder"], f"{name.replace(' ', '_')}.log"), "w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True, env=held())
        self.version = (self.answer() or {}).get("version")

    def answer(self):
        """-> the engine's next answer, or None once it has failed; `reason` then says why."""
        late = threading.Timer(self.limit, self.kill)
        late.start()
        line = self.process.stdout.readline()
        in_time = late.is_alive()
        late.cancel()
        answer = json.loads(line) if line else {"reason": self.end() if in_time else f"no answer within {self.limit} s"}
        self.reason = answer.get("reason")
        return None if self.reason else answer

    def end(self):
        code = self.process.wait()
        self.kill()
        self.log.seek(0)
        return f"its process ended with {code}: {' '.join(self.log.read().split())[-300:]}"

    def features(self):
        return np.load(self.out)

    def seconds(self, runs):
        with contextlib.suppress(OSError):  # if the process has ended, `answer` reports the reason
            print(runs, file=self.process.stdin, flush=True)
        return self.answer()

    def kill(self):
        """Ends the process and the programs that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self):
        self.kill()
        self.process.wait()
        self.log.close()


def distance(got, want):
    want = want.astype(np.float64)
    if got.shape != want.shape:
        return float("inf")
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def start(case, limit):
    """Starts every engine and compares it with the reference -> name -> Worker, distances, reasons of those not run,
    whether all were close enough."""
    import torch_model

    model.write_input(case, [t.numpy() for t in torch_model.table(case["size"])])
    want, tolerance = torch_model.reference(case), TOLERANCE[case["precision"]]
    workers, distances, reasons, close = {}, {}, {}, True
    for name, (module, options) in engines.table(case["backend"], case["precision"]).items():
        if case["only"] and name not in case["only"]:
            reasons[name] = "not asked for (--only)"
            continue
        worker = Worker(name, module, options, case, limit)
        if not worker.reason:
            distances[name] = distance(worker.features(), want)
            if not distances[name] <= tolerance:
                worker.reason = f"wrong: {distances[name]:.1e} from PyTorch's f32, beyond {tolerance:.0e}; not worth timing"
                close = False
        if worker.reason:
            reasons[name] = worker.reason
            worker.close()
        else:
            workers[name] = worker
    return workers, distances, reasons, close


def rounds_of(workers, reasons, rounds, runs):
    """name -> its answer in each round. An engine that fails moves to `reasons`."""
    answers = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            if name in reasons:
                continue
            time.sleep(1)
            answer = worker.seconds(runs)
            if answer is None:
                reasons[name] = worker.reason
            else:
                answers[name].append(answer)
    return {name: given for name, given in answers.items() if name not in reasons}


def ratio(mine, ours):
    return statistics.median(t / u for t, u in zip(mine, ours)) if ours else None


def times(answers, key):
    seconds = [answer.get(key) for answer in answers]
    return seconds if seconds and None not in seconds else None


def row(answers, ours):
    host, device = times(answers, "host_s"), times(answers, "device_s")
    out = {**common.summary(host), "rounds_s": host, "ratio": ratio(host, ours and times(ours, "host_s")), "device_s": None, "device_ratio": None}
    if device:
        out |= {"device_s": statistics.median(device), "device_rounds_s": device, "device_ratio": ratio(device, ours and times(ours, "device_s"))}
    shares = times(answers, "matmul_share")
    if shares:
        out["matmul_share"] = statistics.median(shares)
    return out | {key: answers[0][key] for key in ("tier", "device") if key in answers[0]}


def measure(case, rounds, runs, limit, versions):
    workers, distances, reasons, close = start(case, limit)
    try:
        answers_of = rounds_of(workers, reasons, rounds, runs)
    finally:
        for worker in workers.values():
            worker.close()
    versions.update({name: worker.version for name, worker in workers.items()})
    rows = {name: row(answers, answers_of.get(engines.OURS)) | {"relative_l2": distances[name]} for name, answers in answers_of.items()}
    order = [name for name in engines.table(case["backend"], case["precision"]) if name in reasons]
    result = {"size": case["size"], "batch": case["batch"], "rounds": rounds, "runs_a_round": runs, "engines": rows}
    return result | {"not_run": {name: reasons[name] for name in order}}, close


def show(result):
    cell = lambda value, form: format(value, form) if value is not None else "-"
    print(f"\n{result['size']} x {result['size']}, batch {result['batch']}: seconds an image, and ratios to ours")
    print(f"  {'':20} {'host':>9} {'ratio':>7} {'device':>9} {'ratio':>7}   relative L2")
    for name, r in result["engines"].items():
        host = f"{r['median_s']:9.5f} {cell(r['ratio'], '.2f'):>7}"
        print(f"  {name:20} {host} {cell(r['device_s'], '.5f'):>9} {cell(r['device_ratio'], '.2f'):>7}   {r['relative_l2']:.1e}")
    for name, reason in result["not_run"].items():
        print(f"  {name:20} did not run: {reason}")
    sys.stdout.flush()


def cpu_name():
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def output_of(*command):
    """The output of a command, or None if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine(a):
    devices = output_of(a.binary, "devices", "--json")
    gpu = {
        "nvidia_smi": output_of("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"),
        "devices": json.loads(devices) if devices else output_of(a.binary, "devices"),
    }
    held_to = {"instruction_set": os.environ["MEDDINO_CPU"]} if os.environ.get("MEDDINO_CPU") else {}
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": a.threads, **held_to, **({"gpu": gpu} if a.backend == "gpu" else {})}


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
    ap.add_argument("--precision", choices=["f32", "bf16", "f16"], default="f32", help="bf16: on a CPU; f16: on a GPU")
    ap.add_argument("--cases", default="224:7:5,512:5:2,896:3:1", help="size:rounds:runs a round, ...")
    ap.add_argument("--batches", default="1")
    ap.add_argument("--only", default="", help="engines by name, comma-separated; the others are listed as not requested")
    ap.add_argument("--binary", default=os.path.join(common.root, "target", "release", "meddino"))
    ap.add_argument("--tier", help="meddino's tier of kernels on a GPU")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--carried", help="the folder that pack.sh filled")
    ap.add_argument("--limit", type=int, default=300, help="seconds that an engine may take to start, or for a round")
    ap.add_argument("--depth", type=int, default=12, help="fewer blocks, to try things out")
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    if a.precision == {"cpu": "f16", "gpu": "bf16"}[a.backend]:
        ap.error(f"meddino has no {a.precision} on this backend")
    return a


def cases(a):
    for case in a.cases.split(","):
        for batch in map(int, a.batches.split(",")):
            yield (*map(int, case.split(":")), batch)


def main():
    a = arguments()
    report = {"date": datetime.date.today().isoformat(), "backend": a.backend, **machine(a), "precision": a.precision, "depth": a.depth}
    report |= {"versions": {}, "sizes": []}
    shared = {key: getattr(a, key) for key in ("backend", "precision", "binary", "tier", "threads", "depth")}
    shared |= {"carried": a.carried and os.path.abspath(a.carried), "only": [name for name in a.only.split(",") if name]}
    right = True
    with tempfile.TemporaryDirectory() as scratch:
        shared["scratch"] = scratch
        model.write_weights(shared)
        for size, rounds, runs, batch in cases(a):
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                result, close = measure(shared | {"folder": folder, "size": size, "batch": batch}, rounds, runs, a.limit, report["versions"])
            right &= close
            report["sizes"].append(result)
            show(result)
            with open(a.out, "w") as f:
                json.dump(report, f, indent=1)
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
