"""scikit-learn's logistic regression (lbfgs) over DINOv3's 45 values of C, on the vectors of `benches/heads.rs`.

    python benches/peers/heads.py [--vectors 20000] [--channels 768] [--classes 10] [--first 0] [--last 45] [--warm]

One fit a value of C, as DINOv3 does; with --warm, each fit starts where the one before it ended. Needs scikit-learn. The
number of threads is OMP_NUM_THREADS.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/golden"))
from seeded import uniform  # noqa: E402


def made(n, d, k):
    noise = uniform("features", n * d, 0).reshape(n, d)
    before = np.concatenate([np.zeros((n, 1), np.float32), noise[:, :-1]], 1)
    labels = np.arange(n) % k
    x = noise + before + np.float32(0.083) * uniform("centres", k * d, 0).reshape(k, d)[labels]
    return x * np.where(np.arange(d) % 4 == 0, np.float32(4), np.float32(1)), labels


parser = argparse.ArgumentParser()
parser.add_argument("--vectors", type=int, default=20000)
parser.add_argument("--channels", type=int, default=768)
parser.add_argument("--classes", type=int, default=10)
parser.add_argument("--first", type=int, default=0)
parser.add_argument("--last", type=int, default=45)
parser.add_argument("--warm", action="store_true")
args = parser.parse_args()
warnings.simplefilter("ignore")
x, labels = made(args.vectors, args.channels, args.classes)
x = x.astype(np.float64)
x = (x - x.mean(0)) / x.std(0)
model = LogisticRegression(max_iter=1000, warm_start=args.warm)
total = 0
for c in 10 ** np.linspace(-6, 5, 45)[args.first : args.last]:
    model.set_params(C=c)
    start = time.perf_counter()
    model.fit(x, labels)
    seconds = time.perf_counter() - start
    total += seconds
    z = model.decision_function(x)
    z = np.stack([np.zeros(len(z)), z], 1) if z.ndim == 1 else z
    loss = np.logaddexp.reduce(z, 1) - z[np.arange(len(z)), labels]
    objective = loss.mean() + (model.coef_**2).sum() / (2 * c * len(x))
    print(f"C {c:.3e}: objective {objective:.12f}, {model.n_iter_[0]} iterations, {seconds:.2f} s", flush=True)
print(f"{args.last - args.first} values of C in {total:.2f} s")
