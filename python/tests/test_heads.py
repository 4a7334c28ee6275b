"""Heads on features: values of scikit-learn and PyTorch, the command's files, and scikit-learn's habits."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from conftest import REPOSITORY, TINY

import meddino
from meddino import heads
from meddino.heads import LinearHead, LinearProbe, LogisticRegression, Neighbors, NotFittedError

sys.path.insert(0, str(REPOSITORY / "tests/golden"))
from make_heads import features, standardised

GOLDEN = REPOSITORY / "tests/golden/heads"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def chances(case, classes):
    return np.array(case["probabilities"]).reshape(-1, classes)


@pytest.mark.parametrize("case", golden("logistic"), ids=lambda case: f"{case['n']}-{case['k']}-{case['c']}")
def test_logistic_regression_is_scikit_learns(case):
    one_against_rest = case["link"] == "one_against_rest"
    x, labels = features(case["n"], case["d"], case["k"], 2 if one_against_rest else 1)
    if case["balanced"]:
        labels = np.where(np.arange(case["n"]) % 5 == 0, 1, 0)
    settings = {"C": case["c"], "one_against_rest": one_against_rest, "tol": 1e-11, "max_iter": 5000}
    head = LogisticRegression(**settings, class_weight="balanced" if case["balanced"] else None, standardize=True)
    assert head.fit(x, labels) is head
    found = head.predict_proba(x[:20])
    assert found.dtype == np.float64 and np.abs(found - chances(case, case["k"])).max() < 1e-6
    assert np.array_equal(head.predict(x[:20]), found.argmax(1))
    # The weights are those of vectors as they are.
    logits = x[:20].astype(np.float64) @ head.coef_.T + head.intercept_
    assert np.allclose(head.decision_function(x[:20]), logits[:, 0] if case["k"] == 2 else logits, atol=1e-8)
    if case["n"] == 1000:
        return
    # scikit-learn's weights are of standardised vectors; so are these.
    plain = LogisticRegression(**settings, class_weight=head.class_weight).fit(standardised(x), labels)
    assert np.abs(plain.predict_proba(standardised(x)[:20]) - chances(case, case["k"])).max() < 1e-5
    rows = 1 if case["k"] == 2 else case["k"]
    assert plain.coef_.shape == (rows, case["d"]) and plain.intercept_.shape == (rows,)


@pytest.mark.parametrize("case", golden("probe"), ids=lambda case: f"{case['optimiser']}-{case['rate']}")
def test_the_linear_probe_is_pytorchs(case):
    x, labels = features(500, 32, case["k"], 6)
    settings = {"optimizer": case["optimiser"], "decay": 0.01, "batch_size": 64, "steps": case["steps"]}
    probe = LinearProbe(**settings, warmup=case["warmup"], random_state=11)
    given = standardised(x)
    head, other = probe.path(given, labels, [case["rate"], 2 * case["rate"]])
    assert (head.rate, other.rate) == (case["rate"], 2 * case["rate"]) and not hasattr(probe, "coef_")
    assert np.abs(head.coef_.ravel() - case["weight"]).max() < 1e-4
    assert np.abs(head.intercept_ - case["bias"]).max() < 1e-4
    alone = LinearProbe(**head.get_params()).fit(given, labels)
    assert np.array_equal(alone.coef_, head.coef_)


@pytest.mark.parametrize("case", golden("neighbours"), ids=lambda case: str(case["k"]))
def test_neighbours_are_scikit_learns(case):
    (bank, labels), (queries, _) = features(400, 24, 3, 4), features(50, 24, 3, 5)
    head = Neighbors(n_neighbors=case["k"]).fit(bank, labels)
    assert np.abs(head.predict_proba(queries) - chances(case, 3)).max() < 1e-9
    assert not hasattr(head, "coef_") and not hasattr(head, "decision_function")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (["spleen", "liver"], "U"),
        (np.array(["spleen", "liver"], object), "U"),
        ([7, -3], "i"),
        (np.array([1, 0], np.uint8), "u"),
        ([True, False], "b"),
        ([2.0, 1.0], "f"),
    ],
)
def test_classes_are_of_the_kind_that_was_given(given, kind, vectors, tmp_path):
    x, labels = features(60, 8, 2, 0)
    y = np.asarray(given)[labels]
    head = Neighbors(n_neighbors=3).fit(x, y)
    assert head.classes_.dtype.kind == kind and list(head.classes_) == sorted(given)
    assert head.predict(x).dtype.kind == kind and head.score(x, y) > 0.8
    wide = Neighbors(n_neighbors=3).fit(np.resize(x, (60, 128)), y)
    wide.save(tmp_path / "head.safetensors", vectors)
    assert list(heads.load(tmp_path / "head.safetensors").classes_) == sorted(given)


def test_weights_of_vectors_count_them_several_times():
    x, labels = features(80, 6, 3, 1)
    times = np.arange(80) // 3 % 3
    many = np.repeat(np.arange(80), times)
    for head in [LogisticRegression(tol=1e-10), LogisticRegression(tol=1e-10, class_weight="balanced")]:
        weighted = copy.deepcopy(head).fit(x, labels, sample_weight=times)
        repeated = copy.deepcopy(head).fit(x[many], labels[many])
        assert np.allclose(weighted.coef_, repeated.coef_, atol=1e-6)
        assert weighted.score(x, labels, times) == pytest.approx(repeated.score(x[many], labels[many]))


def test_a_path_has_the_fit_of_each_value():
    x, labels = features(120, 10, 3, 3)
    cs = heads.dinov3_cs()
    assert len(cs) == 45 and cs[0] == pytest.approx(1e-6) and cs[-1] == pytest.approx(1e5)
    assert np.allclose(heads.dinov3_rates(256)[-4:], [1e-2, 2e-2, 5e-2, 0.1]) and len(heads.dinov3_rates()) == 13
    path = LogisticRegression(tol=1e-10, standardize=True).path(x, labels, cs[::9])
    for C, head in zip(cs[::9], path, strict=True):
        alone = LogisticRegression(C=C, tol=1e-10, standardize=True).fit(x, labels)
        assert head.C == C and np.allclose(head.predict_proba(x), alone.predict_proba(x), atol=1e-5)
        assert head.n_iter_.shape == (1,) and head.n_features_in_ == 10


def test_vectors_are_taken_as_numpy_takes_them():
    x, labels = features(40, 8, 2, 0)
    head = LogisticRegression(standardize=True).fit(x, labels)
    expected = head.predict_proba(x)
    locked = x.copy()
    locked.flags.writeable = False
    for other in [
        np.asfortranarray(x),
        locked,
        np.repeat(x, 2, 1)[:, ::2],
        x.astype(np.float64),
        x.tolist(),
        x.astype(">f4"),
    ]:
        assert np.array_equal(head.predict_proba(other), expected)
    again = LogisticRegression(standardize=True).fit(x.tolist(), labels.tolist())
    assert np.array_equal(again.coef_, head.coef_)


def test_a_copy_has_the_same_bits():
    x, labels = features(50, 8, 3, 0)
    for head in [LogisticRegression(standardize=True), LinearProbe(steps=20, rate=0.1), Neighbors(n_neighbors=5)]:
        assert pickle.loads(pickle.dumps(head)).get_params() == head.get_params()
        head.fit(x, labels)
        for other in [pickle.loads(pickle.dumps(head)), copy.deepcopy(head)]:
            assert np.array_equal(other.predict_proba(x), head.predict_proba(x)) and repr(other) == repr(head)


def test_public_names_are_those_of_the_package():
    """Pickles name it, too, so that they do not depend on the files that it consists of."""
    for name in heads.__all__:
        public = getattr(heads, name)
        assert f"{public.__module__}.{public.__qualname__}" == f"meddino.heads.{name}"
    x, labels = features(50, 8, 3, 0)
    given = heads.Vectors(x, ["c"] * 50, None, {}, [])
    for one in [given, LogisticRegression(), Neighbors().fit(x, labels), LinearProbe(steps=9).fit(x, labels)]:
        pickled = pickle.dumps(one)
        assert b"meddino.heads" in pickled and b"meddino.heads." not in pickled
    # A pickle from when `heads` was one file.
    earlier = (
        b"\x80\x03cmeddino.heads\nNeighbors\nq\x00)\x81q\x01}q\x02(X\x0b\x00\x00\x00n_neighborsq\x03K\x07X\x0b"
        b"\x00\x00\x00temperatureq\x04G?\xb1\xeb\x85\x1e\xb8Q\xecub."
    )
    assert repr(pickle.loads(earlier)) == "Neighbors(n_neighbors=7)"


def test_parameters_are_scikit_learns_habit():
    head = LogisticRegression(C=0.5)
    assert repr(head) == "LogisticRegression(C=0.5)" and repr(Neighbors()) == "Neighbors()"
    assert head.get_params() == {
        "C": 0.5, "one_against_rest": False, "class_weight": None, "standardize": False, "tol": 1e-4, "max_iter": 1000
    }  # fmt: skip
    assert head.set_params(C=2, tol=1e-3) is head and (head.C, head.tol) == (2, 1e-3)
    with pytest.raises(ValueError, match="alpha: LogisticRegression has no such parameter; it has C, "):
        head.set_params(alpha=1)


X, Y = features(30, 4, 2, 0)
NAN = X.copy()
NAN[2, 1] = np.nan


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: LogisticRegression().predict(X), NotFittedError, "this LogisticRegression is not fitted; call fit first"),
        (lambda: LogisticRegression().fit(X[0], Y), ValueError, r"X: expected vectors \[N, D\], found the shape \[4\]"),
        (lambda: LogisticRegression().fit(X, Y[:9]), ValueError, "y: expected a target for each of 30 vectors, found 9"),
        (lambda: Neighbors().fit(X, Y[:9]), ValueError, "y: expected a class below 2 for each of 30 vectors"),
        (lambda: LogisticRegression().fit(X, Y[:, None]), ValueError, r"y: expected a class for each vector, \[N\]"),
        (lambda: LogisticRegression().fit(X, Y / 3), ValueError, "y: expected classes, found the number 0.33"),
        (lambda: LogisticRegression().fit(X, [None] * 30), TypeError, "y: expected whole numbers, texts or truth"),
        (lambda: LogisticRegression().fit(X, Y * 0), ValueError, "y: expected at least two classes, found 0 only"),
        (lambda: LogisticRegression().fit(NAN, Y), ValueError, "X: .* found NaN in channel 1 of vector 2"),
        (lambda: LogisticRegression().fit(X.astype(np.float64) * 1e300, Y), ValueError, "X: .* found -?inf"),
        (lambda: LogisticRegression().fit(X[:0], Y[:0]), ValueError, "at least"),
        (lambda: LogisticRegression().fit(X.astype(str), Y), TypeError, "X: expected numbers, found an array of <U"),
        (lambda: LogisticRegression(C=0).fit(X, Y), ValueError, "C: expected a number above 0, found 0"),
        (lambda: LogisticRegression(tol=-1).fit(X, Y), ValueError, "tol: expected a number above 0"),
        (lambda: LogisticRegression(max_iter=-1).fit(X, Y), ValueError, "max_iter: expected a whole number from 1 up"),
        (lambda: LogisticRegression(class_weight="all").fit(X, Y), ValueError, "class_weight: expected None or"),
        (lambda: LogisticRegression().fit(X, Y, [1.0]), ValueError, "sample_weight: expected a weight for each of 30"),
        (lambda: LogisticRegression().fit(X, Y, -X[:, 0] - 9), ValueError, "sample_weight: expected weights from 0 up"),
        (lambda: LinearProbe(rate=0).fit(X, Y), ValueError, "rate: expected a number above 0"),
        (lambda: LinearProbe(rate=1.7e308, steps=30).fit(X, Y), ValueError, "rate: with .* grow without end"),
        (lambda: LinearProbe(momentum=1).fit(X, Y), ValueError, "momentum: expected a number from 0 up, below 1"),
        (lambda: LinearProbe(optimizer="adam").fit(X, Y), ValueError, "optimizer: expected sgd or adamw, found adam"),
        (lambda: LinearProbe(optimizer="adamw", decay=-1.0).fit(X, Y), ValueError, "decay: expected a number from 0"),
        (lambda: LinearProbe(batch_size=2.5).fit(X, Y), ValueError, "batch_size: expected a whole number from 1 up"),
        (lambda: Neighbors(n_neighbors=0).fit(X, Y), ValueError, "n_neighbors: expected a whole number from 1 up"),
        (lambda: Neighbors(temperature=0).fit(X, Y), ValueError, "temperature: expected a number above 0"),
        (lambda: Neighbors().fit(X, Y).predict(X[:, :3]), ValueError, "X: expected vectors of 4 channels, .* found 3"),
        (lambda: Neighbors().fit(X, Y).score(X, Y[:2]), ValueError, "y: expected a class for each of 30 vectors, found 2"),
        (lambda: Neighbors().fit(X, Y).score(X, Y.astype(str)), TypeError, "y: expected classes such as"),
        (lambda: Neighbors().fit(X, Y).save("x.safetensors"), ValueError, "features: expected the Vectors"),
        (lambda: heads.load("missing.safetensors"), FileNotFoundError, "missing.safetensors"),
        (lambda: heads.read("missing.safetensors"), FileNotFoundError, "missing.safetensors"),
        (lambda: heads.read(__file__, vector="max"), ValueError, r"vector: expected cls, mean, cls\+mean or patch"),
        (lambda: heads.read(__file__, pool="median"), ValueError, "pool: expected mean or max, found median"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_exception(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_fit_that_does_not_converge_says_so():
    x, labels = features(100, 20, 3, 0)
    with pytest.warns(RuntimeWarning, match=r"LogisticRegression\(max_iter=2\) did not converge in 2 iterations"):
        LogisticRegression(max_iter=2).fit(x, labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Feature files of four phantoms that differ."""
    folder = tmp_path_factory.mktemp("features")
    model = meddino.load(TINY, device="cpu")
    hu = np.asarray(meddino.Volume("phantom").hu)
    affine = np.diag([0.8, 0.8, 3.0, 1.0])
    for case in range(4):
        scan = meddino.Volume.from_array(np.concatenate([hu + 40 * case, hu - 60 * case]), affine)
        model.write_features(scan, folder / f"c{case}.safetensors", size=64, tokens=["cls", "patch"], layers=[0, 1])
    return folder


@pytest.fixture(scope="module")
def vectors(folder):
    return heads.read(folder)


def test_vectors_are_those_of_the_files(folder, vectors):
    from safetensors.numpy import load_file

    stored = [load_file(folder / f"c{case}.safetensors") for case in range(4)]
    cls = np.concatenate([file["x_norm_clstoken"] for file in stored])
    assert np.array_equal(vectors.values, cls) and vectors.kind["vector"] == "cls" and vectors.kind["rows"] == "slice"
    assert vectors.cases == [f"c{case}" for case in range(4) for _ in range(2)] and vectors.slices == [0, 1] * 4
    assert vectors.files == [str(folder / f"c{case}.safetensors") for case in range(4)]
    pooled = heads.read([folder / "c2.safetensors", folder / "c0.safetensors"], vector="cls+mean", pool="max")
    assert pooled.slices is None and pooled.cases == ["c2", "c0"]
    patches = [file["x_norm_patchtokens"] for file in stored]
    expected = [np.concatenate([stored[c]["x_norm_clstoken"], patches[c].mean(1)], 1).max(0) for c in (2, 0)]
    assert np.allclose(pooled.values, expected, atol=1e-6)
    each = heads.read(folder, vector="patch")
    assert np.array_equal(each.values, np.concatenate(patches).reshape(-1, 128))
    assert each.cases[16 * 2 :: 32] == ["c1", "c2", "c3"] and each.slices[:33] == [0] * 16 + [1] * 16 + [0]
    with pytest.raises(ValueError, match="pool: each patch is a row"):
        heads.read(folder, vector="patch", pool="mean")
    both = heads.read(folder, vector="patch", layers=[0, 1])
    blocks = [np.concatenate([file[f"layers.{n}"][:, -16:] for file in stored]).reshape(-1, 128) for n in (0, 1)]
    assert np.array_equal(both.values, np.concatenate(blocks, 1)) and both.kind["layers"] == "0,1"
    with pytest.raises(ValueError, match="layers: only the tokens of patches"):
        heads.read(folder, layers=[0, 1])
    with pytest.raises(ValueError, match="holds no layers.2"):
        heads.read(folder, vector="patch", layers=[0, 2])


@pytest.mark.parametrize("kind", [LogisticRegression, LinearProbe, Neighbors])
def test_the_command_predicts_as_a_saved_head(kind, folder, vectors, command, tmp_path):
    """And as the head that is loaded again, to the last digit of the table."""
    y = np.where(np.arange(8) % 2 == 0, "upper", "lower")
    settings = {LogisticRegression: {"standardize": True}, LinearProbe: {"steps": 50}, Neighbors: {}}[kind]
    head = kind(**settings).fit(vectors, y)
    path = tmp_path / "head.safetensors"
    head.save(path, vectors, patients=["ann", "ben"])
    loaded = heads.load(path)
    assert isinstance(loaded, LinearHead) == (kind is not Neighbors) and loaded.about["patients"] == ["ann", "ben"]
    assert np.allclose(loaded.predict_proba(vectors), head.predict_proba(vectors), atol=1e-6)
    command("probe", "predict", path, folder, "-o", tmp_path / "table.csv")
    table = [line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines()]
    assert table[0] == ["case", "slice", "predicted", "p_lower", "p_upper"]
    found = loaded.predict_proba(vectors)
    for row, case, number, guess, p in zip(
        table[1:], vectors.cases, vectors.slices, loaded.predict(vectors), found, strict=True
    ):
        assert row == [case, str(number), guess, *(f"{v:.9f}" for v in p)]
    # Another copy of the loaded head, and the same file from it.
    assert np.array_equal(pickle.loads(pickle.dumps(loaded)).predict_proba(vectors), found)
    loaded.save(tmp_path / "again.safetensors")
    assert heads.load(tmp_path / "again.safetensors").about == loaded.about


def test_a_head_of_the_command_is_loaded(folder, vectors, command, tmp_path):
    (tmp_path / "labels.csv").write_text("case,label,split\nc0,1,train\nc1,2,train\nc2,1,val\nc3,2,val\n")
    path = tmp_path / "head.safetensors"
    command("probe", "fit", folder, "--labels", tmp_path / "labels.csv", "--c", "0.1", "-o", path)
    head = heads.load(path)
    assert head.classes_.tolist() == ["1", "2"] and head.about["protocol"]["head"] == "logistic regression"
    pooled = heads.read(folder, pool="mean")
    here = LogisticRegression(C=0.1, standardize=True).fit(pooled, ["1", "2", "1", "2"])
    assert np.allclose(head.predict_proba(pooled), here.predict_proba(pooled), atol=1e-6)
    with pytest.raises(ValueError, match="X: has rows slice, but the features that the head was fitted to have case"):
        head.predict(vectors)
    with pytest.raises(ValueError, match="X: has rows slice"):
        head.save(tmp_path / "other.safetensors", vectors)


def test_a_head_on_patches_labels_scans(folder, command, tmp_path):
    model, path = meddino.load(TINY, device="cpu"), tmp_path / "head.safetensors"
    each = heads.read(folder, vector="patch")
    y = np.tile(np.arange(16) // 8, len(each.values) // 16)  # the upper and the lower half of each slice
    LogisticRegression(standardize=True, C=100).fit(each, y).save(path, each)
    scan = REPOSITORY / "tests/fixtures/nnunet/imagesTs/thick_0000.nii.gz"
    shown = command(
        "segment",
        "--head",
        path,
        "--weights",
        TINY,
        "--backend",
        "cpu",
        "-i",
        scan,
        "-o",
        tmp_path / "l.nii",
        "--json",
    )
    assert {row["label"] for row in json.loads(shown.stdout)["labels"]} <= {1}
    labels = meddino.prepare(tmp_path / "l.nii", window="none")[:, 0]
    images = meddino.prepare(scan, size=64)
    tokens = model.get_intermediate_layers(images)[0]
    loaded = heads.load(path)
    grid = np.stack([loaded.predict(patches).reshape(4, 4) for patches in tokens])
    # Scores are interpolated, so that voxels on the patches' borders may differ.
    sides = [(np.arange(n) * 4 // n) for n in labels.shape[1:]]
    nearest = grid[:, sides[0]][:, :, sides[1]]
    assert (nearest == labels).mean() > 0.9


def test_files_are_not_replaced_by_mistake(folder, vectors, tmp_path):
    head = Neighbors().fit(vectors, np.arange(8) % 2)
    (tmp_path / "mine.safetensors").write_text("mine")
    with pytest.raises(ValueError, match="meddino did not write it; add `overwrite`"):
        head.save(tmp_path / "mine.safetensors", vectors)
    head.save(tmp_path / "mine.safetensors", vectors, overwrite=True)
    before = (folder / "c0.safetensors").read_bytes()
    with pytest.raises(ValueError, match="would take the place of"):
        head.save(folder / "c0.safetensors", vectors, overwrite=True)
    assert (folder / "c0.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match="features: expected vectors of 4 channels"):
        Neighbors().fit(X, Y).save(tmp_path / "x.safetensors", vectors)
    with pytest.raises(ValueError, match="holds no head"):
        heads.load(folder / "c0.safetensors")


ENDLESS = """
import os, signal, threading, time
import numpy as np
from meddino.heads import LinearProbe
# A shell starts its background jobs without Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
x = np.random.default_rng(0).standard_normal([2000, 256], np.float32)
def press():
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press).start()
try:
    LinearProbe(steps=10_000_000).fit(x, np.arange(2000) % 2)
except KeyboardInterrupt:
    time.sleep(0.3)
    before = time.process_time()
    time.sleep(0.5)
    print(time.process_time() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sends a signal")
def test_ctrl_c_ends_a_fit():
    done = subprocess.run([sys.executable, "-c", ENDLESS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.1, "seconds that the process computed after the exception"


def test_scikit_learn_takes_the_heads():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.base import clone, is_classifier
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, labels = features(120, 12, 3, 0)
    x[np.arange(120), np.array([1, 2, 4])[labels]] += 3
    y = np.array(["a", "b", "c"])[labels]
    for head, grid in [
        (LogisticRegression(), {"C": [0.01, 1.0]}),
        (LinearProbe(steps=50), {"rate": [0.01, 0.1]}),
        (Neighbors(), {"n_neighbors": [1, 5]}),
    ]:
        assert is_classifier(head) and clone(head).get_params() == head.get_params()
        assert not hasattr(clone(head.fit(x, y)), "classes_")
        pipeline = make_pipeline(StandardScaler(), head)
        name = type(head).__name__.lower()
        search = GridSearchCV(pipeline, {f"{name}__{key}": values for key, values in grid.items()}, cv=3).fit(x, y)
        assert search.best_score_ > 0.9 and search.predict(x).shape == (120,)
        assert cross_val_score(head, x, y, cv=3, scoring="neg_log_loss", n_jobs=2).shape == (3,)


def test_scikit_learn_fits_the_same():
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    x, labels = features(300, 16, 3, 0)
    x = standardised(x).astype(np.float32).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = linear_model.LogisticRegression(C=0.3, tol=1e-10, max_iter=10000).fit(x, labels)
    ours = LogisticRegression(C=0.3, tol=1e-10).fit(x, labels)
    assert np.abs(ours.coef_ - theirs.coef_).max() < 1e-5 and np.abs(ours.intercept_ - theirs.intercept_).max() < 1e-5
    assert ours.score(x, labels) == theirs.score(x, labels)
