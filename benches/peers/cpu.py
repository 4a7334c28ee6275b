"""meddino on the CPU beside PyTorch, ONNX Runtime, OpenVINO and candle: the same seeded weights and image, interleaved in one run.

    cargo build --release
    cargo build --release --manifest-path benches/peers/candle/Cargo.toml --config 'build.rustflags=["-Ctarget-cpu=native"]'
    python benches/peers/cpu.py --out benches/results/cpu.json
    python benches/peers/cpu.py --precision bf16 --out benches/results/cpu_bf16.json          (both need torch, numpy, safetensors, onnx, onnxscript, onnxruntime, openvino)

Every peer's features are held against PyTorch's in f32 before anything is timed (relative L2 of x_norm, f32 RoPE). In bf16 PyTorch runs under
autocast, and ONNX Runtime and candle, which have no bf16 on a CPU, not at all. candle is left out where it was not built. Then, round after round, each engine in turn
warms up once and runs a few images; a round gives its median, the table the median of the rounds. `ratio` is the median, over the rounds, of a peer's
seconds by ours in that round. Each engine has `--threads` threads; a pause before it lets the others' threads go to sleep.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.join(here, "..", "..")
sys.path.insert(0, os.path.join(root, "tests", "golden"))

import numpy as np
import onnxruntime
import openvino
import torch
from safetensors.numpy import load_file, save_file

import reference as R
import seeded as S

TOLERANCE = {"f32": 2e-5, "bf16": 3e-2}  # bf16 anywhere is 1e-3 and more


class Model(torch.nn.Module):
    """image [1, 3, H, W] -> every token after the final norm [1, T, C]; RoPE in f32, its table made beforehand."""

    def __init__(self, weights, cfg):
        super().__init__()
        self.names = list(weights)
        self.cfg = cfg
        for i, name in enumerate(self.names):
            self.register_buffer(f"w{i}", weights[name])

    def forward(self, image):
        weights = {name: getattr(self, f"w{i}") for i, name in enumerate(self.names)}
        out = R.forward(weights, image, self.cfg, rope_dtype=torch.float32)
        return torch.cat([out["x_norm_clstoken"][:, None], out["x_storage_tokens"], out["x_norm_patchtokens"]], 1)


def timed(run, runs):
    run()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def peers(model, image, folder, threads, precision):
    """name -> function of nothing that runs one image and gives [1, T, C]."""
    size = image.shape[-1]
    table = R.rope_table(R.rope_periods(64, torch.float32), size // 16, size // 16, torch.float32)
    R.rope_table = lambda *_: table
    x = image.numpy()
    path = os.path.join(folder, f"{size}.onnx")
    torch.onnx.export(model, (image,), path, input_names=["image"], output_names=["x"], dynamo=True, verbose=False)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(path, "CPU", config).create_infer_request()

    def run_torch():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return model(image).float().numpy()

    engines = {
        "PyTorch": run_torch,
        "ONNX Runtime": lambda: session.run(None, {"image": x})[0],
        "OpenVINO": lambda: request.infer({"image": x})[0],
    }
    return {name: run for name, run in engines.items() if precision == "f32" or name != "ONNX Runtime"}


def candle(binary, weights, image, folder, threads):
    """-> a function of a number of runs that gives candle's features and its seconds an image, by its own clock."""
    size = image.shape[-1]
    table = R.rope_table(R.rope_periods(64, torch.float32), size // 16, size // 16, torch.float32)
    prefix = [torch.zeros(5, 32), torch.ones(5, 32)]
    sin, cos = (torch.cat([p, t[:, :32]]).contiguous().numpy() for p, t in zip(prefix, table))
    at = {name: os.path.join(folder, f"candle_{name}.safetensors") for name in ["weights", "input", "out"]}
    save_file({name: w.numpy() for name, w in weights.items()}, at["weights"])
    save_file({"image": image.numpy(), "sin": sin, "cos": cos}, at["input"])

    def run(runs):
        command = [binary, at["weights"], at["input"], str(runs), at["out"]]
        done = subprocess.run(command, env=dict(os.environ, RAYON_NUM_THREADS=str(threads)), capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stderr}")
        return load_file(at["out"])["x"], float(done.stdout)

    return run


def ours(binary, threads, precision, *args):
    env = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    command = [binary, *args, "-q", "-c", "seeded:0", "--backend", "cpu", "--rope", "f32", "--precision", precision]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def our_features(binary, image, folder, threads, precision):
    save_file({"image": image.numpy()}, os.path.join(folder, "image.safetensors"))
    out = os.path.join(folder, "out.safetensors")
    ours(binary, threads, precision, "features", os.path.join(folder, "image.safetensors"), "-o", out)
    f = load_file(out)
    return np.concatenate([f["x_norm_clstoken"][:, None], f["x_storage_tokens"], f["x_norm_patchtokens"]], 1)


def measure(size, rounds, runs, model, weights, a, folder):
    binary, threads, precision = a.binary, a.threads, a.precision
    image = torch.from_numpy(S.uniform("image", 3 * size * size, 0).reshape(1, 3, size, size)) * 2
    engines = peers(model, image, folder, threads, precision)
    with torch.inference_mode():
        want = model(image).numpy().astype(np.float64)
    distance = lambda got: float(np.linalg.norm(got - want) / np.linalg.norm(want))
    distances = {name: distance(run()) for name, run in engines.items()}
    alone = {}
    if precision == "f32" and os.path.exists(a.candle):
        alone["candle"] = candle(a.candle, weights, image, folder, threads)
        distances["candle"] = distance(alone["candle"](1)[0])
    distances["meddino"] = distance(our_features(binary, image, folder, threads, precision))
    for name, d in distances.items():
        if not d <= TOLERANCE[precision]:
            sys.exit(f"{name} at {size}: {d:.1e} from PyTorch, beyond {TOLERANCE[precision]:.0e}: not worth timing")

    seconds = {name: [] for name in ["meddino", *engines, *alone]}
    shares = []
    for _ in range(rounds):
        time.sleep(1)
        said = json.loads(ours(binary, threads, precision, "bench", "--json", "--size", str(size), "--runs", str(runs)))
        seconds["meddino"].append(said["median_s"])
        shares.append(said["matmul_share"])
        for name, run in engines.items():
            time.sleep(1)
            seconds[name].append(timed(run, runs))
        for name, run in alone.items():
            time.sleep(1)
            seconds[name].append(run(runs)[1])
    row = {}
    for name, s in seconds.items():
        ratio = statistics.median(t / u for t, u in zip(s, seconds["meddino"]))
        row[name] = {"median_s": statistics.median(s), "min_s": min(s), "rounds_s": s, "ratio": ratio, "relative_l2": distances[name]}
        print(f"{size:5} {name:14} {statistics.median(s):8.4f} s {ratio:6.2f} x ours   L2 {distances[name]:.1e}", flush=True)
    row["meddino"]["matmul_share"] = statistics.median(shares)
    return {"size": size, "rounds": rounds, "runs_a_round": runs, "engines": row}


def cpu_name():
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--binary", default=os.path.join(root, "target", "release", "meddino"))
    ap.add_argument("--candle", default=os.path.join(here, "candle", "target", "release", "candle-peer"))
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    ap.add_argument("--cases", default="224:7:5,512:5:2,896:3:1", help="size:rounds:runs a round, ...")
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    weights = {k: torch.from_numpy(v) for k, v in S.state_dict(S.Config.vit_base(), 0).items() if k != "mask_token"}
    model = Model(weights, S.Config.vit_base()).eval()
    report = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": a.threads,
        "precision": a.precision,
        "versions": {
            "meddino": subprocess.run([a.binary, "--version"], capture_output=True, text=True).stdout.split()[-1],
            "PyTorch": torch.__version__,
            "ONNX Runtime": onnxruntime.__version__,
            "OpenVINO": openvino.__version__,
        },
        "sizes": [],
    }
    rope_table = R.rope_table
    for case in a.cases.split(","):
        size, rounds, runs = map(int, case.split(":"))
        R.rope_table = rope_table
        with tempfile.TemporaryDirectory() as folder:
            report["sizes"].append(measure(size, rounds, runs, model, weights, a, folder))
        with open(a.out, "w") as f:
            json.dump(report, f, indent=1)


if __name__ == "__main__":
    main()
