"""Writes maps.safetensors beside this file: scikit-learn's PCA and PyTorch's cosine similarity of seeded tokens.

    python maps.py          (needs scikit-learn, torch, numpy and safetensors)

There are 240 tokens of 64 channels in two images. Their spectrum is hard on purpose: the variances of the second and
third component differ by 2 %, the fourth is close, and the mean is far from zero. Everything is computed in f64 from
the f32 tokens.

    python maps.py FEATURES.safetensors BASIS.safetensors

compares the components of a picture (`meddino pca --save-basis`) with scikit-learn's PCA of the patch tokens of the
same slice (`meddino features`).
"""

import os
import sys

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA

import seeded as S

here = os.path.dirname(os.path.abspath(__file__))


def pca(tokens):
    """Mean, components, variance and whitened scores of tokens [P, C], in f64."""
    fit = PCA(n_components=3, whiten=True, svd_solver="full")
    scores = fit.fit_transform(tokens.astype(np.float64))
    return {"mean": fit.mean_, "components": fit.components_, "variance": fit.explained_variance_, "scores": scores}


def golden():
    images, patches, channels = 2, 120, 64
    noise = S.uniform("tokens", images * patches * channels, 0).reshape(-1, channels).astype(np.float64)
    turn = np.linalg.qr(S.uniform("turn", channels * channels, 0).reshape(channels, channels).astype(np.float64))[0]
    # Whitened first, so that `spread` alone determines the spectrum.
    noise = (noise - noise.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T))).T
    spread = np.concatenate([[3.0, 2.0, 1.98, 1.9], 1.5 * 0.93 ** np.arange(channels - 4)])
    tokens = ((noise * spread) @ turn + 4.0 * S.uniform("mean", channels, 0)).astype(np.float32)
    whole, first = pca(tokens), pca(tokens[:40])  # the second case has fewer tokens than channels
    query = 7
    x = torch.from_numpy(tokens).double()
    out = {"tokens": tokens.reshape(images, patches, channels)}
    out |= {f"whole.{k}": v for k, v in whole.items()} | {f"first40.{k}": v for k, v in first.items()}
    out["cosine"] = torch.nn.functional.cosine_similarity(x, x[query : query + 1], dim=1).numpy()
    out = {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in out.items()}
    save_file(out, os.path.join(here, "maps.safetensors"), {"query": str(query)})
    print({k: v.shape for k, v in out.items()}, whole["variance"], first["variance"])


def compare(features, basis):
    tokens, ours = load_file(features)["x_norm_patchtokens"], load_file(basis)
    tokens = tokens.reshape(-1, tokens.shape[-1])
    want = pca(tokens)
    scores = (tokens.astype(np.float64) - ours["mean"]) @ ours["components"].T.astype(np.float64) / np.sqrt(ours["variance"])
    for name, got in {**{k: ours[k] for k in ("mean", "components", "variance")}, "scores": scores}.items():
        print(f"{name}: largest difference {np.abs(got - want[name]).max():.2e} of {np.abs(want[name]).max():.3g}")
    print("limits:", ours["limits"], "want", want["scores"].min(), want["scores"].max())


if __name__ == "__main__":
    compare(*sys.argv[1:]) if len(sys.argv) > 1 else golden()
