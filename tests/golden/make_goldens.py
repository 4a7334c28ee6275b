"""Writes the goldens beside this file: PyTorch's outputs for seeded weights, small enough for the repository.

    python make_goldens.py          (needs torch, numpy and safetensors; takes a minute on two cores)

With f32 RoPE the goldens are computed in f64, so that they are exact to f32: PyTorch's f32 result differs from them by
up to 2e-6 (relative L2). bf16 RoPE is defined by its roundings, so those goldens are computed in f32 as PyTorch does.

A case is a config, a shape, a RoPE precision and optionally a mask; the file's metadata holds all of them. The image is
not stored: it is `2 * uniform("image", ...)` of seeded.py with seed 0, the same bit for bit in any language, in squares
of `block` x `block` pixels. Finer noise drives some tokens of the untrained full-size model into near cancellation,
where PyTorch's f32 is off by 2e-6. `NAME_everyN` keeps every Nth patch (from patch 0) after the prefix tokens, if the
tensor has prefix tokens. `layers.N` is block N's output after the final norm.
"""

import os

import numpy as np
import torch
from safetensors.torch import save_file

import reference as R
import seeded as S

here = os.path.dirname(os.path.abspath(__file__))
ROPE = {"bf16": torch.bfloat16, "f32": torch.float64}

# name, config, (B, H, W), block, rope, layers, every, masked
CASES = [
    ("base_224_rope-f32", "vit_base", (1, 224, 224), 4, "f32", (2, 5, 8, 11), 16, False),
    ("base_224_rope-bf16", "vit_base", (1, 224, 224), 4, "bf16", (2, 5, 8, 11), 16, False),
    ("base_b2_160x240_rope-f32", "vit_base", (2, 160, 240), 1, "f32", (), 16, False),
    ("tiny_b3_70x115_rope-f32", "tiny", (3, 70, 115), 1, "f32", (0, 2), 1, False),
    ("tiny_b2_48x80_rope-bf16_masked", "tiny", (2, 48, 80), 1, "bf16", (1,), 1, True),
]


def image(b, h, w, block):
    h, w = h // block, w // block
    x = torch.from_numpy(S.uniform("image", b * 3 * h * w, 0).reshape(b, 3, h, w)) * 2
    return x.repeat_interleave(block, 2).repeat_interleave(block, 3)


def mask(b, patches):
    """True for about a quarter of the patches."""
    return torch.from_numpy(S.uniform("mask", b * patches, 0).reshape(b, patches) > np.float32(0.5))


def thin(name, x, every, prefix):
    if every == 1 or name in ("x_norm_clstoken", "x_storage_tokens"):
        return name, x
    skip = 0 if name == "x_norm_patchtokens" else prefix
    return f"{name}_every{every}", torch.cat([x[:, :skip], x[:, skip::every]], 1)


def case(name, config, shape, block, rope, layers, every, masked):
    cfg = getattr(S.Config, config)()
    dtype = torch.float32 if rope == "bf16" else torch.float64
    weights = {k: torch.from_numpy(v).to(dtype) for k, v in S.state_dict(cfg, 0).items()}
    b, h, w = shape
    m = mask(b, (h // 16) * (w // 16)) if masked else None
    with torch.inference_mode():
        out = R.forward(weights, image(b, h, w, block).to(dtype), cfg, rope_dtype=ROPE[rope], layers=layers, mask=m)
    kept = dict(thin(k, v, every, 1 + cfg.n_storage_tokens) for k, v in out.items())
    meta = {"weights": f"seeded:0:{config}", "shape": f"{b},3,{h},{w}", "block": str(block), "rope": rope, "masked": str(masked).lower()}
    save_file({k: v.float().contiguous() for k, v in kept.items()}, os.path.join(here, name + ".safetensors"), meta)


def rope_tables():
    """The bf16 sines and cosines along one axis of n patches, [n, 16], for images of 224, 896 and 2048 pixels."""
    out = {}
    for n in (14, 56, 128):
        sin, cos = R.rope_table(R.rope_periods(64, torch.bfloat16), n, 1, torch.bfloat16)
        out[f"sin.{n}"], out[f"cos.{n}"] = sin[:, :16].contiguous(), cos[:, :16].contiguous()
    out["periods"] = R.rope_periods(64, torch.bfloat16)
    save_file(out, os.path.join(here, "rope_bf16.safetensors"))


if __name__ == "__main__":
    for c in CASES:
        case(*c)
    rope_tables()
