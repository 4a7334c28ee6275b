"""burn on wgpu: a separate program (benches/peers/burn/). It runs on, so that its autotune is over before the first
round."""

import os
import subprocess

from safetensors.numpy import load_file

import common
import model


class Peer(common.Engine):
    def __init__(self, case):
        super().__init__(case)
        self.out = os.path.join(case["folder"], "burn.safetensors")
        self.version = common.locked("burn", "burn")
        self.words = os.path.join(case["folder"], "burn.log")
        command = [common.program(case, "burn-peer"), model.weights_path(case), model.input_path(case), case["precision"], self.out]
        with open(self.words, "w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1)
        self.line()

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            with open(self.words) as log:
                raise common.Unavailable(f"it ended with {self.process.wait()}: {' '.join(log.read().split())[-300:]}")
        return line

    def features(self):
        return load_file(self.out)["x"]

    def seconds(self, runs):
        self.process.stdin.write(f"{runs}\n")
        return self.an_image(*map(float, self.line().split()))
