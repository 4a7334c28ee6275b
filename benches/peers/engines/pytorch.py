"""PyTorch on CUDA or on the CPU: eager (with SDPA as its attention) or compiled, on CUDA with its CUDA graphs (mode
reduce-overhead). TF32 is off. bf16 on a CPU is autocast's."""

import statistics

import torch
import torch._inductor.config

import common
import model
import torch_model


class Peer(common.Engine):
    version = torch.__version__

    def __init__(self, case, dtype=None, compiled=False):
        super().__init__(case)
        torch_model.exact()
        torch.set_num_threads(case["threads"])
        self.on = "cpu" if case["backend"] == "cpu" else "cuda"
        if self.on == "cuda" and not torch.cuda.is_available():
            raise common.Unavailable("no CUDA device")
        self.autocast = self.on == "cpu" and case["precision"] == "bf16"
        net = torch_model.Model(case, dtype or "f32", self.on)
        self.net = self.compiled(net) if compiled else net
        self.image = torch.from_numpy(model.read_input(case)["image"])
        for _ in range(3 if compiled else 1):  # compiled: it runs once, records CUDA's graph once, and then replays
            self.features()

    def compiled(self, net):
        torch._inductor.config.compile_threads = 4  # several workers compile at the same time
        return torch.compile(net, fullgraph=True, mode="reduce-overhead" if self.on == "cuda" else "default")

    def forward(self, image):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            return self.net(image)

    def features(self):
        return self.forward(self.image.to(self.on)).float().cpu().numpy()

    def seconds(self, runs):
        host = self.timed(self.features, runs)
        return self.an_image(host, self.device_seconds(runs) if self.on == "cuda" else None)

    def device_seconds(self, runs):
        """Times the pass with CUDA events."""
        image, seconds = self.image.to(self.on), []
        self.warm(lambda: (self.forward(image), torch.cuda.synchronize()))
        for _ in range(runs):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            self.forward(image)
            end.record()
            torch.cuda.synchronize()
            seconds.append(start.elapsed_time(end) / 1e3)
        return statistics.median(seconds)
