"""Writes the .npy files beside this one with NumPy: every numeric dtype, both byte orders, both axis orders, two and
three axes.

    python make_npy.py          (needs numpy)

The value at [s, h, w] is 100 s + 10 h + w - 20, or 100 s + 10 h + w for unsigned dtypes. An array of two axes is
slice 0.
"""

import os

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
s, h, w = np.indices((2, 3, 4))
for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"):
    values = 100 * s + 10 * h + w - (0 if kind[0] == "u" else 20)
    for order in "CF":
        np.save(os.path.join(here, f"le_{kind}_{order}_3d.npy"), np.array(values, "<" + kind, order=order))
        np.save(os.path.join(here, f"be_{kind}_{order}_2d.npy"), np.array(values[0], ">" + kind, order=order))
