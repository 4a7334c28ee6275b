"""candle on the CPU: a separate program (benches/peers/candle/), started for every round, which measures its own
seconds."""

import os
import subprocess

from safetensors.numpy import load_file

import common
import model


class Peer(common.Engine):
    def __init__(self, case):
        super().__init__(case)
        if case["precision"] != "f32":
            raise common.Unavailable(f"it has no {case['precision']} on a CPU")
        if case["batch"] != 1:
            raise common.Unavailable("its program takes one image")
        self.program = common.program(case, "candle-peer")
        self.out = os.path.join(case["folder"], "candle.safetensors")
        self.version = common.locked("candle", "candle-core")

    def run(self, runs):
        command = [self.program, model.weights_path(self.case), model.input_path(self.case), str(runs), self.out]
        env = dict(os.environ, RAYON_NUM_THREADS=str(self.case["threads"]))
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            raise common.Unavailable(done.stderr.strip())
        return float(done.stdout)

    def features(self):
        self.run(1)
        return load_file(self.out)["x"]

    def seconds(self, runs):
        return self.an_image(self.run(runs), None)
