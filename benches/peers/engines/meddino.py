"""Ours, by its command line: `features` for what is compared, `bench` for what is timed."""

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
        self.version = self.said([case["binary"], "--version"]).split()[-1]
        self.image = model.input_path(case)
        self.weights = "seeded:0" if case["depth"] == 12 else model.weights_path(case)

    def said(self, command):
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
        return self.said([case["binary"], *args, *how, *tier])

    def features(self):
        out = os.path.join(self.case["folder"], "meddino.safetensors")
        self.ours("features", self.image, "-o", out)
        f = load_file(out)
        return np.concatenate([f["x_norm_clstoken"][:, None], f["x_storage_tokens"], f["x_norm_patchtokens"]], 1)

    def seconds(self, runs):
        case = self.case
        said = json.loads(self.ours("bench", "--json", "--size", str(case["size"]), "--batch", str(case["batch"]), "--runs", str(runs)))
        return {"host_s": said["median_s"], "device_s": said.get("device_s"), **{k: said[k] for k in ("matmul_share", "tier", "device") if said.get(k) is not None}}
