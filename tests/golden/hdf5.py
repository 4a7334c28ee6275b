#!/usr/bin/env python3
"""Reads what `meddino probe fit --export cvpr26 --export-dir DIR` wrote with h5py, and compares it with the features.

    python tests/golden/hdf5.py DIR FEATURES    (needs h5py, numpy and safetensors)

Each case of DIR/cases.csv must have a file with one dataset, `y_hat`: the mean of the class tokens of its slices, as with
`--vector cls --pool mean`.
"""

import csv
import sys
from pathlib import Path

import h5py
import numpy
from safetensors.numpy import load_file


def main(exported: Path, features: Path) -> None:
    with open(exported / "cases.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    for row in rows:
        with h5py.File(exported / f"{row['case']}.h5") as file:
            assert list(file) == ["y_hat"], list(file)
            vector, mark = file["y_hat"], file["y_hat"].attrs["meddino"]
            assert vector.dtype == "<f4" and vector.ndim == 1 and mark, (vector.dtype, vector.shape, mark)
            found = vector[:]
        cls = load_file(features / f"{row['case']}.safetensors")["x_norm_clstoken"]
        wanted = cls.mean(axis=0, dtype=numpy.float64).astype(numpy.float32)
        assert numpy.array_equal(found, wanted), row["case"]
    print(f"h5py {h5py.__version__} reads {len(rows)} vectors of {len(found)} channels as they are")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
