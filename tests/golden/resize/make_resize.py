"""Writes resize.safetensors: PyTorch's antialiased bilinear resize, and the authors' preprocessing, on seeded noise.

    python make_resize.py          (needs torch, numpy and safetensors)

Inputs are not stored. `resize.*` starts from `uniform("HxW", H * W, 0)` of ../seeded.py. `preprocess.*` starts from
`trunc(1500 * uniform("HxW", H * W, 0))` in HU, which exceeds the window on both sides. Outputs of more than 2048 values
keep every Nth value of the flattened image, N odd, and are named `_everyN`.
"""

import os
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
import reference as R  # noqa: E402
import seeded as S  # noqa: E402

KEEP = 2048

RESIZE = [  # (H, W) -> (H', W')
    ((256, 256), (224, 224)),
    ((512, 512), (224, 224)),
    ((512, 512), (896, 896)),
    ((37, 53), (224, 160)),
    ((100, 7), (3, 200)),
    ((513, 301), (160, 240)),
    ((301, 513), (302, 512)),
    ((1, 1), (32, 48)),
    ((2, 3), (1, 1)),
    ((640, 480), (1, 1)),
    ((5, 2), (5, 8192)),
    ((8192, 3), (512, 3)),
    ((3, 8191), (16, 17)),
    ((64, 64), (2048, 48)),
]
PREPROCESS = [(224, 224), (256, 224), (96, 224)]


def noise(h, w):
    return torch.from_numpy(S.uniform(f"{h}x{w}", h * w, 0).reshape(h, w))


def thin(name, x):
    x = x.flatten()
    every = -(-x.numel() // KEEP)
    if every == 1:
        return name, x.contiguous()
    every += 1 - every % 2
    return f"{name}_every{every}", x[::every].contiguous()


out = {}
for (h, w), to in RESIZE:
    y = F.interpolate(noise(h, w)[None, None], size=to, mode="bilinear", align_corners=False, antialias=True)
    name, y = thin(f"resize.{h}x{w}.{to[0]}x{to[1]}", y)
    out[name] = y
for side, to in PREPROCESS:
    name, y = thin(f"preprocess.{side}x{side}.{to}x{to}", R.preprocess(torch.trunc(noise(side, side) * 1500), to)[:, 0])
    out[name] = y
save_file(out, os.path.join(here, "resize.safetensors"))
print(sum(v.numel() * 4 for v in out.values()), "bytes")
