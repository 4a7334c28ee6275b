#!/usr/bin/env python3
"""Writes `orient.txt`: affines of every kind, and how nibabel turns a volume of 5 x 4 x 3 voxels with each of them to
LPS.

Each line holds the affine (12 numbers, row by row, each an f32), the shape of the turned array along columns, rows and
slices (3), and its affine (12). Needs numpy and nibabel. The text is the same on every machine.
"""
import itertools
from pathlib import Path

import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

SHAPE = (5, 4, 3)


def rotation(rng):
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    return q * np.sign(np.diag(r))


def affines():
    rng = np.random.default_rng(0)
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            m = np.zeros((3, 3))
            m[axes, range(3)] = np.array(signs) * (0.75, 1.5, 3)
            yield m
    for _ in range(150):  # random direction, mirrored or not, random spacing
        yield rotation(rng) * np.sign(rng.standard_normal(3)) * rng.uniform(0.3, 5, 3)
    for _ in range(60):  # sheared, as a tilted gantry does
        yield rotation(rng) @ (np.eye(3) + np.triu(rng.uniform(-0.5, 0.5, (3, 3)), 1)) * rng.uniform(0.3, 5, 3)


lines = []
for m in affines():
    affine = np.eye(4)
    affine[:3, :3] = m
    affine[:3, 3] = m @ (-1, -2, -3) + (7.25, -11.5, 100)
    affine = affine.astype(np.float32).astype(np.float64)
    turn = ornt_transform(io_orientation(affine), axcodes2ornt("LPS"))
    shape = np.empty(3, int)
    shape[turn[:, 0].astype(int)] = SHAPE
    turned = affine @ inv_ornt_aff(turn, SHAPE)
    numbers = [*map(float, affine[:3].ravel()), *map(int, shape), *map(float, turned[:3].ravel())]
    lines.append(" ".join(repr(n) for n in numbers))
Path(__file__).with_name("orient.txt").write_text("\n".join(lines) + "\n")
