"""Writes golden/heads/*.json: what scikit-learn, NumPy and PyTorch make of seeded features.

    python make_heads.py          # scikit-learn, numpy
    python make_heads.py probe    # torch, numpy

The features are those of `features()` below, which the tests compute bit for bit alike.
"""

import json
import sys
from pathlib import Path

import numpy as np
from seeded import uniform

HERE = Path(__file__).parent / "heads"


def features(n, d, k, seed):
    """[N, D] f32 and labels `[N]`: class i % k, whose centre stands 0.35 of the noise away along each of some channels.

    Every third channel is ten times as wide, every fifth is moved by 3, so that standardisation matters.
    """
    noise = uniform("features", n * d, seed).reshape(n, d)
    centres = uniform("centres", k * d, seed).reshape(k, d)
    labels = np.arange(n) % k
    x = noise + np.float32(0.25) * centres[labels]
    scale = np.where(np.arange(d) % 3 == 0, np.float32(10), np.float32(1))
    shift = np.where(np.arange(d) % 5 == 0, np.float32(3), np.float32(0))
    return (x * scale + shift).astype(np.float32), labels


def standardised(x):
    x = x.astype(np.float64)
    return (x - x.mean(0)) / x.std(0)


def objective(model, x, labels, c, weights=None):
    """The objective that LogisticRegression minimises: the mean loss, and the penalty divided by C and the weights' sum."""
    w = np.ones(len(labels)) if weights is None else weights
    z = model.decision_function(x)
    z = np.stack([np.zeros(len(z)), z], 1) if z.ndim == 1 else z
    loss = np.logaddexp.reduce(z, 1) - z[np.arange(len(z)), labels]
    return float((w @ loss + (model.coef_**2).sum() / (2 * c)) / w.sum())


MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


class Draw:
    """The draws of src/heads/draw.rs."""

    def __init__(self, seed, stream):
        self.state = mix(mix((seed + GOLDEN) & MASK) ^ ((stream + GOLDEN) & MASK))

    def below(self, n):
        self.state = (self.state + GOLDEN) & MASK
        return (mix(self.state) * n) >> 64

    def order(self, n):
        order = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.below(i + 1)
            order[i], order[j] = order[j], order[i]
        return order


def regressions():
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    cases = []
    for n, d, k, c, balanced in [
        (1000, 768, 10, 1.0, False),
        (1000, 768, 10, 1e-3, False),
        (300, 20, 3, 100.0, False),
        (200, 24, 2, 1.0, False),
        (250, 24, 2, 0.1, True),
    ]:
        x, labels = features(n, d, k, 1)
        if balanced:
            labels = np.where(np.arange(n) % 5 == 0, 1, 0)
        x = standardised(x)
        model = LogisticRegression(C=c, tol=1e-11, max_iter=20000, class_weight="balanced" if balanced else None)
        model.fit(x, labels)
        weights = (n / (k * np.bincount(labels)))[labels] if balanced else None
        p = model.predict_proba(x[:20])
        cases.append({"n": n, "d": d, "k": k, "c": c, "balanced": balanced, "link": "softmax",
                      "objective": objective(model, x, labels, c, weights), "probabilities": p.ravel().tolist()})
    x, labels = features(400, 24, 4, 2)
    x = standardised(x)
    model = OneVsRestClassifier(LogisticRegression(C=0.5, tol=1e-11, max_iter=20000)).fit(x, labels)
    total = sum(objective(e, x, (labels == i).astype(int), 0.5) for i, e in enumerate(model.estimators_))
    cases.append({"n": 400, "d": 24, "k": 4, "c": 0.5, "balanced": False, "link": "one_against_rest", "objective": total,
                  "probabilities": model.predict_proba(x[:20]).ravel().tolist()})
    return cases


def write(name, value):
    HERE.mkdir(exist_ok=True)
    (HERE / f"{name}.json").write_text(json.dumps(value, indent=None, separators=(",", ":")) + "\n")


def neighbours():
    """KNeighborsClassifier with DINO's weights."""
    from sklearn.neighbors import KNeighborsClassifier

    x, labels = features(400, 24, 3, 4)
    queries, _ = features(50, 24, 3, 5)
    cases = []
    for k in [1, 10, 50]:
        model = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
        cases.append({"k": k, "probabilities": model.fit(x.astype(np.float64), labels).predict_proba(queries.astype(np.float64)).ravel().tolist()})
    return cases


def predictions(n, k, seed, parts):
    """Probabilities [N, K] that lean to the true class, in whole parts of a power of two, so that scores have ties and
    their decimals are exact; and labels."""
    labels = (uniform("labels", n, seed).astype(np.float64) * 0.5 + 0.5) ** 2 * k // 1
    labels = labels.astype(int)
    p = np.exp(2 * uniform("scores", n * k, seed).reshape(n, k).astype(np.float64))
    p[np.arange(n), labels] *= 2.0
    p = np.floor(p / p.sum(1, keepdims=True) * parts)
    p[np.arange(n), p.argmax(1)] += parts - p.sum(1)
    return p / parts, labels


def metrics():
    from sklearn import metrics as m
    from sklearn.calibration import calibration_curve

    cases = []
    for n, k, seed, parts in [(300, 2, 0, 64), (240, 4, 1, 64), (60, 3, 2, 1 << 20)]:
        p, labels = predictions(n, k, seed, parts)
        guess = p.argmax(1)
        binary = [labels == c for c in range(k)]
        observed, predicted = calibration_curve(binary[1], p[:, 1], n_bins=10)
        groups = np.arange(n) // 3
        members = [np.flatnonzero(groups == g) for g in range(groups.max() + 1)]
        figures = []
        for i in range(500):
            draw = Draw(9, i)
            rows = np.concatenate([members[draw.below(len(members))] for _ in members])
            figures.append([m.accuracy_score(labels[rows], guess[rows]), m.roc_auc_score(binary[1][rows], p[rows, 1])])
        low, high = np.quantile(np.array(figures), [0.025, 0.975], axis=0)
        cases.append({
            "k": k, "probabilities": p.ravel().tolist(), "labels": labels.tolist(),
            "accuracy": m.accuracy_score(labels, guess), "balanced_accuracy": m.balanced_accuracy_score(labels, guess),
            "f1": m.f1_score(labels, guess, average=None).tolist(), "macro_f1": m.f1_score(labels, guess, average="macro"),
            "sensitivity": m.recall_score(labels, guess, average=None).tolist(),
            "specificity": [m.recall_score(~b, guess != c) for c, b in enumerate(binary)],
            "auroc": [m.roc_auc_score(b, p[:, c]) for c, b in enumerate(binary)],
            "average_precision": [m.average_precision_score(b, p[:, c]) for c, b in enumerate(binary)],
            "brier": m.brier_score_loss(labels, p[:, 1]) if k == 2 else m.brier_score_loss(labels, p, labels=range(k)),
            "calibration": [predicted.tolist(), observed.tolist()],
            "confusion": m.confusion_matrix(labels, guess).ravel().tolist(),
            "intervals": [low.tolist(), high.tolist()],
        })
    return cases


def folds():
    from sklearn.model_selection import StratifiedGroupKFold

    cases = []
    for n, k, count, seed in [(200, 2, 5, 0), (150, 3, 4, 1), (60, 2, 3, 2)]:
        labels = ((uniform("labels", n, seed) * 0.5 + 0.5) ** 2 * k).astype(int)
        groups = ((uniform("groups", n, seed) * 0.5 + 0.5) * (n // 4)).astype(int)
        fold = np.zeros(n, int)
        for i, (_, test) in enumerate(StratifiedGroupKFold(count).split(labels, labels, groups)):
            fold[test] = i
        cases.append({"folds": count, "labels": labels.tolist(), "groups": groups.tolist(), "fold": fold.tolist()})
    return cases


def probes():
    """torch.nn.Linear, from zeros, with the same order of batches."""
    import torch

    cases = []
    for name, k, make, rates, steps, warmup in [
        ("sgd", 4, lambda p, rate: torch.optim.SGD(p, rate, momentum=0.9), [0.05, 0.5], 300, 0),
        ("adamw", 3, lambda p, rate: torch.optim.AdamW(p, rate, weight_decay=0.01), [1e-3, 1e-2], 300, 30),
    ]:
        x, labels = features(500, 32, k, 6)
        x, y = torch.tensor(standardised(x), dtype=torch.float32), torch.tensor(labels)
        for rate in rates:
            model = torch.nn.Linear(32, k)
            torch.nn.init.zeros_(model.weight)
            torch.nn.init.zeros_(model.bias)
            optimiser = make(model.parameters(), rate)
            share = lambda t: (t + 1) / warmup if t < warmup else 0.5 * (1 + np.cos(np.pi * (t - warmup) / (steps - warmup)))
            schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
            draw, left = Draw(11, 0), []
            for _ in range(steps):
                while len(left) < 64:
                    left += draw.order(500)
                batch, left = left[:64], left[64:]
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimiser.step()
                schedule.step()
            cases.append({"optimiser": name, "k": k, "rate": rate, "steps": steps, "warmup": warmup,
                          "weight": model.weight.detach().ravel().tolist(), "bias": model.bias.detach().tolist()})
    return cases


def write(name, value):
    HERE.mkdir(exist_ok=True)
    (HERE / f"{name}.json").write_text(json.dumps(value, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["probe"]:
        write("probe", probes())
    else:
        for name, make in [("logistic", regressions), ("neighbours", neighbours), ("metrics", metrics), ("folds", folds)]:
            write(name, make())
