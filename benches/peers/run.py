"""Compares meddino with its peers on this machine: the same seeded weights and images, interleaved in one run.

    cargo build --release
    cargo build --release --manifest-path benches/peers/candle/Cargo.toml --config 'build.rustflags=["-Ctarget-cpu=native"]'
    python benches/peers/run.py --backend cpu --out benches/results/cpu.json
    python benches/peers/run.py --backend cpu --precision bf16 --out benches/results/cpu_bf16.json

    benches/peers/pack.sh target/peers          (the GPU's peers: wheels, burn's program, ONNX files, IREE's modules)
    python benches/peers/run.py --backend gpu --precision f32,f16 --carried target/peers --seconds 240 --out gpu.json

MEDDINO_CPU=avx2 holds meddino, PyTorch and OpenVINO to AVX2 on a CPU that has more.

Needs torch, numpy and safetensors; onnx for the ONNX engines, and onnxscript where no ONNX files are packed; onnxruntime
and openvino on a CPU. An engine that cannot run here is listed with the reason, in the table and in the JSON.

On a CPU, the engines of one case start, are timed and end before the next case. On a GPU, those of all cases start
first, as many at a time as there are cores, and then wait: a waiting engine leaves the GPU alone. So burn, which tries
kernels as it starts, tries them while others start.

Before timing, every engine's features are compared with PyTorch's in f32 (relative L2 of x_norm, f32 RoPE). An engine
beyond the tolerance is not timed, and the exit code is 1. Then each engine in turn warms up once and runs a few times,
round after round. A round gives the engine's median, and the table shows the median of the rounds. Seconds are per
image, from the host's memory to features in the host's memory. `device` is the pass alone, with image and features on
the device, if the engine can measure it. A ratio is the median, over the rounds, of a peer's seconds divided by ours in
that round. Each engine has `--threads` threads. A pause before it lets the others' threads go to sleep. `start_s` are the
seconds from the engine's start to its first features: imports, weights, compilation.

No step begins after `--seconds`, and an engine that is in one then is ended: rounds become fewer, and what was not run is
listed. The JSON is written after every case.
"""

import argparse
import concurrent.futures
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
TIME_UP = "the time was up (--seconds)"


def held():
    """The environment in which libraries keep to the instruction set that MEDDINO_CPU names. oneDNN (in PyTorch and
    OpenVINO), MKL and PyTorch's own kernels obey. ONNX Runtime and candle have no such switch."""
    env = dict(os.environ)
    if env.get("MEDDINO_CPU") == "avx2":
        env |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    return env


class Clock:
    """The seconds that a step may take: `limit`, or what is left of the seconds for all steps."""

    def __init__(self, seconds, limit):
        self.end, self.limit = time.perf_counter() + seconds, limit

    def left(self):
        return max(0.0, min(self.limit, self.end - time.perf_counter()))


class Worker:
    """An engine in its own process (worker.py). If it ends early or takes too long, it is not measured, and `reason`
    says why."""

    def __init__(self, name, engine, case, clock):
        self.name, self.engine, self.case, self.clock = name, engine, case, clock
        self.process = self.reason = self.version = self.start_s = self.distance = None
        self.stem = os.path.join(case["folder"], name.replace(" ", "_"))

    def start(self):
        """Starts the engine and waits until its features are written."""
        if not self.clock.left():
            self.reason = TIME_UP
            return
        begun = time.perf_counter()
        job = {"module": self.engine.module, "options": self.engine.options, "case": self.case, "out": f"{self.stem}.npy"}
        command = [sys.executable, os.path.join(common.here, "worker.py"), json.dumps(job)]
        with open(f"{self.stem}.log", "w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True, env=held())
        self.version = (self.answer() or {}).get("version")
        self.start_s = time.perf_counter() - begun

    def answer(self):
        """-> the engine's next answer, or None once it has failed; `reason` then says why."""
        limit = self.clock.left()
        late = threading.Timer(limit, self.interrupt)
        late.start()
        line = self.process.stdout.readline()
        in_time = late.is_alive()
        late.cancel()
        answer = json.loads(line) if line else {"reason": self.end() if in_time else f"no answer within {limit:.0f} s; its last words: {self.words()}"}
        self.reason = answer.get("reason")
        return None if self.reason else answer

    def end(self):
        code = self.process.wait()
        self.kill()
        return f"its process ended with {code}: {self.words()}"

    def log(self):
        with contextlib.suppress(OSError), open(f"{self.stem}.log", errors="replace") as log:
            return log.read()
        return ""

    def words(self):
        """-> the end of the log, or where in the code the engine was interrupted."""
        _, interrupted, text = self.log().rpartition("(most recent call first):")
        text = " ".join(text.split())
        return text[:300] if interrupted else text[-300:]

    def judge(self, want):
        """Compares the features with PyTorch's -> whether they are right, unless another reason keeps the engine from
        being timed."""
        if self.reason:
            return True
        self.distance, tolerance = distance(np.load(f"{self.stem}.npy"), want), TOLERANCE[self.case["precision"]]
        if not self.distance <= tolerance:
            self.reason = f"wrong: {self.distance:.1e} from PyTorch's f32, beyond {tolerance:.0e}; not worth timing"
            self.close()
        return not self.reason

    def seconds(self, runs):
        with contextlib.suppress(OSError):  # if the process has ended, `answer` reports the reason
            print(runs, file=self.process.stdin, flush=True)
        return self.answer()

    def interrupt(self):
        """Ends the process after it has logged what it was doing."""
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(0.3)
        self.kill()

    def kill(self):
        """Ends the process and the programs that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self):
        if self.process:
            self.kill()
            self.process.wait()


def distance(got, want):
    want = want.astype(np.float64)
    if got.shape != want.shape:
        return float("inf")
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def workers_of(case, clock):
    """The case's engines, in the order of the table. Those that were not asked for have that as their reason."""
    workers = [Worker(name, engine, case, clock) for name, engine in engines.table(case["backend"], case["precision"]).items()]
    for worker in workers:
        if case["only"] and worker.name not in case["only"]:
            worker.reason = "not asked for (--only)"
    return workers


def start(workers, starters):
    """Starts the engines and compares their features with PyTorch's -> whether all are right."""
    import torch_model

    shape = lambda worker: (worker.case["size"], worker.case["batch"])
    wanted = [worker for worker in workers if not worker.reason]
    for folder, case in {worker.case["folder"]: worker.case for worker in wanted}.items():
        os.makedirs(folder)
        model.write_input(case, [t.numpy() for t in torch_model.table(case["size"])])
    with concurrent.futures.ThreadPoolExecutor(starters) as pool:
        begun = [pool.submit(worker.start) for worker in sorted(wanted, key=lambda worker: not worker.engine.slow)]
        wants = {shape(worker): worker.case for worker in wanted}
        wants = {key: torch_model.reference(case) for key, case in wants.items()}
        concurrent.futures.wait(begun)
    for future in begun:
        future.result()
    return all([worker.judge(wants[shape(worker)]) for worker in wanted])


def rounds_of(workers, rounds, runs, pause, until):
    """name -> its answer in each round. An engine that fails gets its reason. No second round begins after `until`."""
    answers = {worker.name: [] for worker in workers}
    for i in range(rounds):
        if i and time.perf_counter() > until:
            break
        for worker in workers:
            if worker.reason or not worker.clock.left():
                continue
            time.sleep(pause)
            answer = worker.seconds(runs)
            if answer:
                answers[worker.name].append(answer)
    return answers


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


def measure(case, workers, rounds, runs, pause, until):
    """Times the case's engines in turns -> the case's entry in the report."""
    answers = rounds_of(workers, rounds, runs, pause, until)
    rows, not_run = {}, {}
    for worker in workers:
        given = answers[worker.name]
        begun = {"start_s": worker.start_s, "relative_l2": worker.distance}
        if worker.reason:
            not_run[worker.name] = worker.reason
        elif given:
            rows[worker.name] = row(given, answers.get(engines.OURS)) | begun
        else:
            not_run[worker.name] = f"it is right ({worker.distance:.1e}) and started in {worker.start_s:.1f} s, but {TIME_UP if rounds else 'no rounds were asked for'}"
    entry = {key: case[key] for key in ("size", "batch", "precision")} | {"rounds": rounds, "runs_a_round": runs}  # at most
    return entry | {"engines": rows, "not_run": not_run}


def show(result):
    cell = lambda value, form: format(value, form) if value is not None else "-"
    print(f"\n{result['size']} x {result['size']}, batch {result['batch']}, {result['precision']}: seconds an image, and ratios to ours")
    print(f"  {'':20} {'host':>9} {'ratio':>7} {'device':>9} {'ratio':>7}   relative L2   start")
    for name, r in result["engines"].items():
        host = f"{r['median_s']:9.5f} {cell(r['ratio'], '.2f'):>7}"
        print(f"  {name:20} {host} {cell(r['device_s'], '.5f'):>9} {cell(r['device_ratio'], '.2f'):>7}   {r['relative_l2']:11.1e} {r['start_s']:5.1f} s")
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
    ap.add_argument("--precision", default="f32", help="f32, also bf16 on a CPU and f16 on a GPU, comma-separated")
    ap.add_argument("--cases", default="224:7:5,512:5:2,896:3:1", help="size:rounds:runs a round, ...")
    ap.add_argument("--batches", default="1")
    ap.add_argument("--only", default="", help="engines by name, comma-separated; the others are listed as not requested")
    ap.add_argument("--binary", default=os.path.join(common.root, "target", "release", "meddino"))
    ap.add_argument("--tier", help="meddino's tier of kernels on a GPU")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--starters", type=int, default=os.cpu_count(), help="engines that start at the same time")
    ap.add_argument("--warm", dest="warm_s", type=float, default=0.3, help="seconds that an engine runs before it is timed")
    ap.add_argument("--pause", type=float, default=1, help="seconds of rest before an engine's turn")
    ap.add_argument("--carried", help="the folder that pack.sh filled")
    ap.add_argument("--limit", type=float, default=300, help="seconds that an engine may take to start, or for a round")
    ap.add_argument("--seconds", type=float, default=86400, help="for everything")
    ap.add_argument("--after", help="begin to time once this file is there")
    ap.add_argument("--turn", dest="turn_s", type=float, default=1e9, help="seconds after which an engine's turn begins no further run")
    ap.add_argument("--depth", type=int, default=12, help="fewer blocks, to try things out")
    ap.add_argument("--log", help="a file for what the engines' libraries say")
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    known = {"cpu": {"f32", "bf16"}, "gpu": {"f32", "f16"}}[a.backend]
    a.precision = a.precision.split(",")
    if unknown := set(a.precision) - known:
        ap.error(f"--precision: meddino has no {' or '.join(sorted(unknown))} on this backend")
    return a


def cases(a, scratch):
    """Yields every case with its rounds and the runs of a round."""
    shared = {key: getattr(a, key) for key in ("backend", "binary", "tier", "threads", "warm_s", "turn_s", "depth")}
    shared |= {"scratch": scratch, "carried": a.carried and os.path.abspath(a.carried), "only": [name for name in a.only.split(",") if name]}
    for entry in a.cases.split(","):
        size, rounds, runs = map(int, entry.split(":"))
        for batch in map(int, a.batches.split(",")):
            for precision in a.precision:
                folder = os.path.join(scratch, f"{precision}_{size}_{batch}")
                yield shared | {"size": size, "batch": batch, "precision": precision, "folder": folder}, rounds, runs


def write_logs(path, workers):
    with open(path, "a") as out:
        for worker in workers:
            if worker.log():
                out.write(f"==== {worker.stem}\n{worker.log()[-20000:]}\n")


def measured_together(together, a, clock, report):
    """Starts the engines of the cases, times them case by case, and adds to the report -> whether all were right."""
    begun = [(workers_of(case, clock), case, rounds, runs) for case, rounds, runs in together]
    everyone = [worker for workers, *_ in begun for worker in workers]
    try:
        right = start(everyone, a.starters)
        report["versions"] |= {worker.name: worker.version for worker in everyone if worker.version}
        while a.after and not os.path.exists(a.after) and clock.left():
            time.sleep(0.1)
        for i, (workers, case, rounds, runs) in enumerate(begun):
            now = time.perf_counter()
            until = now + (clock.end - now) / (len(begun) - i)  # each case's share of what is left
            report["sizes"].append(measure(case, workers, rounds, runs, a.pause, until))
            show(report["sizes"][-1])
            with open(a.out, "w") as f:
                json.dump(report, f, indent=1)
        return right
    finally:
        for worker in everyone:
            worker.close()
        if a.log:
            write_logs(a.log, everyone)


def main():
    a = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # the engines are ended too
    clock = Clock(a.seconds, a.limit)
    report = {"date": datetime.date.today().isoformat(), "backend": a.backend, **machine(a), "depth": a.depth, "versions": {}, "sizes": []}
    right = True
    with tempfile.TemporaryDirectory() as scratch:
        every = list(cases(a, scratch))
        model.write_weights(every[0][0])
        for together in [every] if a.backend == "gpu" else [[one] for one in every]:
            right &= measured_together(together, a, clock, report)
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
