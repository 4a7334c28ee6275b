"""meddino's command: `features` for the comparison, `bench` for the times."""

import json
import os
import subprocess

import numpy as np
from safetensors.numpy import load_file

import common
import model


class Peer(common.Engine):
    def __init__(self, case):
        super().__init__(case)
        self.version = self.output_of([case["binary"], "--version"]).split()[-1]
        self.image = model.input_path(case)
        self.weights = "seeded:0" if case["depth"] == 12 else model.weights_path(case)

    def output_of(self, command):
        env = dict(os.environ, RAYON_NUM_THREADS=str(self.case["threads"]))
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True)
        except OSError as error:
            raise common.Unavailable(f"{command[0]}: {error.strerror}; cargo build --release") from error
        if done.returncode:
            raise common.Unavailable(done.stderr.strip())
        return done.stdout

    def ours(self, *args):
        case = self.case
        how = ["-q", "-c", self.weights, "--backend", case["backend"], "--rope", "f32", "--precision", case["precision"]]
        tier = ["--tier", case["tier"]] if case["tier"] else []
        return self.output_of([case["binary"], *args, *how, *tier])

    def features(self):
        out = os.path.join(self.case["folder"], "meddino.safetensors")
        self.ours("features", self.image, "-o", out)
        f = load_file(out)
        return np.concatenate([f["x_norm_clstoken"][:, None], f["x_storage_tokens"], f["x_norm_patchtokens"]], 1)

    def seconds(self, runs):
        case = self.case
        report = json.loads(self.ours("bench", "--json", "--size", str(case["size"]), "--batch", str(case["batch"]), "--runs", str(runs)))
        return {"host_s": report["median_s"], "device_s": report.get("device_s"), **{k: report[k] for k in ("matmul_share", "tier", "device") if report.get(k) is not None}}
