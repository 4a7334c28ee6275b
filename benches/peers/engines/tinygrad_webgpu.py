"""tinygrad on WebGPU, through Dawn from the package dawn-python. The pass is recorded once (TinyJit)."""

import importlib.util
import math
import os
import platform

import common
import model


def find_dawn(case):
    """Sets the library's path, because tinygrad looks only where pip would have installed it, and tinygrad's cache."""
    common.carried(case, "dawn_python")
    found = importlib.util.find_spec("pydawn")
    if found is None:
        raise common.Unavailable("dawn-python was not carried along: benches/peers/pack.sh FOLDER tinygrad")
    path = os.path.join(os.path.dirname(found.origin), "lib", f"libwebgpu_dawn_{platform.machine()}.so")
    cache = os.path.join(case["folder"], "tinygrad.db")  # its own, because several processes lock each other out
    os.environ |= {"WEBGPU_PATH": path, "DEV": "WEBGPU", "WEBGPU_BACKEND": "WGPUBackendType_Vulkan", "CACHEDB": cache, "PARALLEL": "0"}


def forward(w, sin, cos, depth, image):
    """The pass of reference.py. tinygrad's gelu is the tanh form, so the exact form is written out."""
    norm = lambda x, at: x.layernorm(eps=model.EPS) * w[f"{at}.weight"] + w[f"{at}.bias"]
    linear = lambda x, at: x.linear(w[f"{at}.weight"].transpose(), w.get(f"{at}.bias"))
    gelu = lambda x: x * 0.5 * (1 + (x / math.sqrt(2)).erf())

    def turn(x):
        a, b = x.chunk(2, dim=-1)
        return (a * cos - b * sin).cat(b * cos + a * sin, dim=-1)

    x = image.conv2d(w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=model.PATCH).flatten(2).transpose(1, 2)
    batch, _, c = x.shape
    x = w["cls_token"].expand(batch, -1, -1).cat(w["storage_tokens"].expand(batch, -1, -1), x, dim=1)
    for i in range(depth):
        at = f"blocks.{i}"
        qkv = linear(norm(x, f"{at}.norm1"), f"{at}.attn.qkv").reshape(batch, -1, 3, c // model.HEAD, model.HEAD)
        q, k, v = (qkv[:, :, j].transpose(1, 2) for j in range(3))
        a = turn(q).scaled_dot_product_attention(turn(k), v).transpose(1, 2).reshape(batch, -1, c)
        x = x + linear(a, f"{at}.attn.proj") * w[f"{at}.ls1.gamma"]
        h = linear(gelu(linear(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1")), f"{at}.mlp.fc2")
        x = x + h * w[f"{at}.ls2.gamma"]
    return norm(x, "norm")


class Peer(common.Engine):
    def __init__(self, case):
        super().__init__(case)
        find_dawn(case)
        common.carried(case, "tinygrad")
        import importlib.metadata

        from tinygrad import Device, Tensor, TinyJit, dtypes

        self.version = importlib.metadata.version("tinygrad")
        dtype = dtypes.half if case["precision"] == "f16" else dtypes.float
        self.put = lambda array: Tensor(array).cast(dtype).realize()
        given = model.read_input(case)
        self.image = given["image"]
        w = {name: self.put(array) for name, array in model.weights(case).items()}
        sin, cos = self.put(given["sin"]), self.put(given["cos"])
        self.run = TinyJit(lambda image: forward(w, sin, cos, case["depth"], image).cast(dtypes.float).realize())
        self.wait = Device["WEBGPU"].synchronize
        for _ in range(3):  # TinyJit runs once, records once, and then replays
            self.features()

    def features(self):
        return self.run(self.put(self.image)).numpy()

    def device(self, runs):
        image = self.put(self.image)

        def one():
            self.run(image)
            self.wait()

        return self.timed(one, runs)
