"""Makes a golden from the original repository and the original checkpoint, for `meddino verify --golden`.

    git clone https://github.com/ricklisz/MedDINOv3
    python from_original.py --repo MedDINOv3 --checkpoint MedDINOv3-B-CT3M.pth --slice slice.npy --size 224 \\
        --out golden.safetensors
    meddino verify -c MedDINOv3-B-CT3M.pth --golden golden.safetensors

Needs torch, numpy, safetensors and the dependencies of that repository. `--slice` is a .npy of one CT slice [H, W] in
Hounsfield units; without it the image is seeded noise. The model runs on the CPU in f32, with RoPE in bf16 as in the
authors' `vit_base`. The golden holds the normalised `image`, the four outputs of `forward_features`, `layers.N` for
four blocks, and every tap (`patch_embed`, `blocks.N`), so that `verify` can name the first tap that differs.
"""

import argparse
import os
import sys

import numpy as np
import torch
from safetensors.torch import save_file

import reference as R


def original_model(repo, checkpoint):
    """The authors' ViT-B/16 with the checkpoint's weights. The checkpoint must hold every parameter and no other."""
    sys.path[:0] = [os.path.join(repo, "nnUNet"), repo]
    from nnunetv2.training.nnUNetTrainer.dinov3.dinov3.models.vision_transformer import vit_base

    model = vit_base(drop_path_rate=0.0, layerscale_init=1e-5, n_storage_tokens=4, qkv_bias=False, mask_k_bias=True)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = state.get("teacher", state)
    state = {k.removeprefix("backbone."): v for k, v in state.items() if not k.startswith(("dino_head", "ibot"))}
    model.load_state_dict(state, strict=True)
    return model.eval()


def taps_of(model):
    """A dict in which the model's forward pass stores `patch_embed` and `blocks.N`."""
    taps = {}
    keep = lambda name: lambda _module, _args, out: taps.__setitem__(name, out[0] if isinstance(out, (list, tuple)) else out)
    model.patch_embed.register_forward_hook(keep("patch_embed"))
    for i, block in enumerate(model.blocks):
        block.register_forward_hook(keep(f"blocks.{i}"))
    return taps


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--repo", required=True, help="a checkout of the original repository")
    ap.add_argument("--checkpoint", required=True, help="MedDINOv3-B-CT3M.pth")
    ap.add_argument("--slice", help=".npy of HU, [H, W]; default: seeded noise")
    ap.add_argument("--size", type=int, default=224)
    ap.add_argument("--layers", default="2,5,8,11")
    ap.add_argument("--out", required=True)
    a = ap.parse_args()

    model = original_model(a.repo, a.checkpoint)
    if a.slice:
        image = R.preprocess(np.load(a.slice), a.size)
    else:
        image = torch.randn(1, 3, a.size, a.size, generator=torch.Generator().manual_seed(0))
    taps = taps_of(model)
    layers = [int(n) for n in a.layers.split(",")]
    with torch.inference_mode():
        out = {k: v for k, v in model.forward_features(image).items() if torch.is_tensor(v)}
        taps["patch_embed"] = taps["patch_embed"].flatten(1, -2)
        for n in layers:
            out[f"layers.{n}"] = model.norm(taps[f"blocks.{n}"])
    golden = {k: v.float().contiguous().clone() for k, v in {"image": image, **out, **taps}.items()}
    save_file(golden, a.out, {"rope": "bf16", "source": os.path.basename(a.checkpoint), "torch": torch.__version__})
    for k, v in golden.items():
        print(f"{k:22} {str(tuple(v.shape)):20} mean {v.mean():+.6f} absmax {v.abs().max():.4f}")


if __name__ == "__main__":
    main()
