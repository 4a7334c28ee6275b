"""Writes golden.safetensors beside this file: what PyTorch's DINOv3 answers to each call that test_model.py makes.

    python make_golden.py          (needs torch, numpy and safetensors)

The model is that of tests/golden/reference.py in f64 under f32 RoPE, with seeded weights ("seeded:0:tiny"). The image
is `2 * uniform("image", ...)` of tests/golden/seeded.py. What DINOv3's methods make of the blocks' outputs is stated here
anew. A call's answer is stored as NAME, or as NAME.BLOCK.PART for each block and each part of a tuple.
"""

import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "..", "tests", "golden"))

import reference
import seeded
import torch
from calls import CALLS
from safetensors.torch import save_file

CONFIG = seeded.Config.tiny()
SHAPE = (2, 3, 32, 50)
WEIGHTS = {name: torch.from_numpy(value).double() for name, value in seeded.state_dict(CONFIG, 0).items()}


def image():
    return torch.from_numpy(seeded.uniform("image", 2 * 3 * 32 * 50, 0).reshape(SHAPE)).double() * 2


def mask():
    return torch.from_numpy(seeded.uniform("mask", 2 * 6, 0).reshape(2, 6) > 0.5)


def forward(depth=CONFIG.depth, mask=None):
    config = seeded.Config(CONFIG.embed_dim, depth, CONFIG.num_heads, CONFIG.ffn_dim)
    return reference.forward(WEIGHTS, image(), config, rope_dtype=torch.float64, mask=mask)


def block(index, norm):
    """All tokens after block `index`: the output of a model that ends there."""
    x = forward(index + 1)["x_prenorm"]
    return (
        torch.nn.functional.layer_norm(x, x.shape[-1:], WEIGHTS["norm.weight"], WEIGHTS["norm.bias"], 1e-6)
        if norm
        else x
    )


def layers(n=1, reshape=False, return_class_token=False, return_extra_tokens=False, norm=True):
    chosen = range(CONFIG.depth - n, CONFIG.depth) if isinstance(n, int) else sorted(n)
    for index in chosen:
        tokens = block(index, norm)
        cls, extra, patches = tokens[:, 0], tokens[:, 1:5], tokens[:, 5:]
        if reshape:
            patches = patches.unflatten(1, (2, 3)).movedim(-1, 1)
        yield [patches] + [cls] * return_class_token + [extra] * return_extra_tokens


def main():
    out = {}
    for name, arguments in CALLS.items():
        for index, parts in enumerate(layers(**arguments)):
            out |= {f"{name}.{index}.{part}": value for part, value in enumerate(parts)}
    out |= {f"features.{name}": value for name, value in forward().items()}
    out |= {f"masked.{name}": value for name, value in forward(mask=mask()).items()}
    save_file(
        {name: value.float().contiguous() for name, value in out.items()}, os.path.join(here, "golden.safetensors")
    )


if __name__ == "__main__":
    main()
