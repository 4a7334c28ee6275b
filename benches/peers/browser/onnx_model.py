"""Writes a model as an ONNX file for onnxruntime-web, with its weights in the file. Needs NumPy, onnx and safetensors.

    python onnx_model.py WEIGHTS.safetensors SIDE OUT.onnx

WEIGHTS are what `meddino convert` writes. Input `image` [1, 3, SIDE, SIDE], output `x` [1, T, C]: every token after the
final norm. RoPE is in f32.
"""

import json
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open

EPS = 1e-6


def rope(head, side):
    """Sin and cos of each patch [P, D], of which the second half repeats the first."""
    periods = (100.0 ** (2 * np.arange(head // 4, dtype=np.float32) / (head // 2))).astype(np.float32)
    at = (2 * (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side) - 1).astype(np.float32)
    angle = (np.float32(2 * np.pi) * at[:, None] / periods).astype(np.float32)
    angles = np.concatenate([np.repeat(angle, side, 0), np.tile(angle, (side, 1))], 1)
    angles = np.tile(angles, 2).astype(np.float64)
    return np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32)


class Graph:
    """Nodes and constants, one after the other."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value, dtype=np.float32):
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def op(self, kind, *inputs, **attributes):
        self.count += 1
        outputs = [f"t{self.count}_{i}" for i in range(attributes.pop("outputs", 1))]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs[0] if len(outputs) == 1 else outputs

    def shaped(self, x, *shape):
        return self.op("Reshape", x, self.constant(shape, np.int64))


def build(weights, config, side):
    g = Graph()
    c, heads, prefix = config["embed_dim"], config["num_heads"], 1 + config["n_storage_tokens"]
    head, patch = c // heads, config["patch_size"]
    patches = (side // patch) ** 2
    tokens = prefix + patches
    w = lambda name: g.constant(weights[name])
    linear = lambda x, name: g.op("Add", g.op("MatMul", x, g.constant(weights[f"{name}.weight"].T)), w(f"{name}.bias"))
    norm = lambda x, name: g.op("LayerNormalization", x, w(f"{name}.weight"), w(f"{name}.bias"), axis=-1, epsilon=EPS)
    sin, cos = (g.constant(v) for v in rope(head, side // patch))
    split = g.constant([prefix, patches], np.int64)
    halves = g.constant([head // 2, head // 2], np.int64)

    def rotated(x):
        first, rest = g.op("Split", x, split, axis=2, outputs=2)
        a, b = g.op("Split", rest, halves, axis=3, outputs=2)
        turned = g.op("Concat", g.op("Neg", b), a, axis=3)
        return g.op("Concat", first, g.op("Add", g.op("Mul", rest, cos), g.op("Mul", turned, sin)), axis=2)

    x = g.op("Conv", "image", w("patch_embed.proj.weight"), w("patch_embed.proj.bias"), strides=[patch, patch])
    x = g.op("Transpose", g.shaped(x, 1, c, patches), perm=[0, 2, 1])
    x = g.op("Concat", g.constant(weights["cls_token"].reshape(1, 1, c)), g.constant(weights["storage_tokens"].reshape(1, prefix - 1, c)), x, axis=1)
    for i in range(config["depth"]):
        at = f"blocks.{i}"
        qkv = g.op("MatMul", norm(x, f"{at}.norm1"), g.constant(weights[f"{at}.attn.qkv.weight"].T))
        if f"{at}.attn.qkv.bias" in weights:
            qkv = g.op("Add", qkv, w(f"{at}.attn.qkv.bias"))
        qkv = g.op("Transpose", g.shaped(qkv, tokens, 3, heads, head), perm=[1, 2, 0, 3])
        q, k, v = g.op("Split", qkv, g.constant([1, 1, 1], np.int64), axis=0, outputs=3)
        scores = g.op("MatMul", rotated(q), g.op("Transpose", rotated(k), perm=[0, 1, 3, 2]))
        shares = g.op("Softmax", g.op("Mul", scores, g.constant(head**-0.5)), axis=-1)
        a = g.shaped(g.op("Transpose", g.op("MatMul", shares, v), perm=[0, 2, 1, 3]), 1, tokens, c)
        x = g.op("Add", x, g.op("Mul", linear(a, f"{at}.attn.proj"), w(f"{at}.ls1.gamma")))
        h = g.op("Gelu", linear(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1"))
        x = g.op("Add", x, g.op("Mul", linear(h, f"{at}.mlp.fc2"), w(f"{at}.ls2.gamma")))
    x = norm(x, "norm")
    g.nodes[-1].output[0] = "x"
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(g.nodes, "dinov3", [value("image", [1, 3, side, side])], [value("x", [1, tokens, c])], g.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def main():
    path, side, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with safe_open(path, "numpy") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}
        config = json.loads(file.metadata()["meddino.config"])
    model = build(weights, config, side)
    onnx.checker.check_model(model)
    onnx.save(model, out)


if __name__ == "__main__":
    main()
