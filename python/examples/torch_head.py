"""Trains a linear head of PyTorch on features of meddino: which half of a scan does a slice come from?

    python torch_head.py scan.nii.gz [CHECKPOINT]

Needs torch. The features are computed once; the head sees them as tensors that share their memory.
"""

import sys

import numpy as np
import torch

import meddino


def trained(path: str, checkpoint: str | None = None, steps: int = 300) -> tuple[torch.nn.Linear, float]:
    """Returns the head, and the share of slices that it gets right."""
    torch.manual_seed(0)
    model = meddino.load(checkpoint)
    batches = [features["x_norm_clstoken"] for _, features in model.features(path, tokens="cls", size=224)]
    tokens = torch.from_numpy(np.concatenate(batches))
    upper = (torch.arange(len(tokens)) >= len(tokens) / 2).float()
    tokens = (tokens - tokens.mean(0)) / (tokens.std(0) + 1e-6)
    head = torch.nn.Linear(model.embed_dim, 1)
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(tokens)[:, 0], upper)
        loss.backward()
        optimiser.step()
    right = ((head(tokens)[:, 0] > 0) == (upper > 0)).float().mean().item()
    return head, right


if __name__ == "__main__":
    path, *checkpoint = sys.argv[1:]
    _, right = trained(path, checkpoint[0] if checkpoint else None)
    print(f"{right:.0%} of the slices are told right (the same ones that the head was trained on)")
