"""Writes the weights and the image that every engine gets. Reading them needs only numpy."""

import dataclasses
import os

import numpy as np
from safetensors.numpy import load_file, save_file

import common
import seeded as S

HEAD, PATCH, PREFIX, EPS = 64, 16, 5, 1e-6


def config(depth):
    return dataclasses.replace(S.Config.vit_base(), depth=depth)


def weights_path(case):
    return os.path.join(case["scratch"], "weights.safetensors")


def input_path(case):
    return os.path.join(case["folder"], "input.safetensors")


def write_weights(case):
    save_file(S.state_dict(config(case["depth"]), 0), weights_path(case))


def weights(case):
    """name -> array, without the tensors that only training needs."""
    return {name: w for name, w in load_file(weights_path(case)).items() if name != "mask_token"}


def write_input(case, table):
    """`image` [B, 3, H, W], and RoPE's `sin` and `cos` [T, D/2] of every token: 0 and 1 for tokens that are not
    patches."""
    size, batch = case["size"], case["batch"]
    image = S.uniform("image", batch * 3 * size * size, 0).reshape(batch, 3, size, size) * np.float32(2)
    still = np.zeros((PREFIX, HEAD // 2), np.float32)
    sin, cos = (np.concatenate([still + i, t[:, : HEAD // 2]]) for i, t in enumerate(table))
    save_file({"image": image, "sin": sin, "cos": cos}, input_path(case))


def read_input(case):
    return load_file(input_path(case))
