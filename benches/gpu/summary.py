"""Prints the measurements of benches/gpu/run.sh as tables: summary.py OUT

First come the targets, each met, missed or not measured, then our own figures. A ratio is a peer's time divided by
ours, so above 1 meddino is faster.
"""

import json
import os
import sys


def lines(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return [json.loads(line) for line in f if line.strip()]


def whole(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return {}
    with open(path) as f:
        return json.load(f)


def peers(folder, precision):
    """size, batch -> engine -> its row."""
    cases = whole(folder, "peers.json").get("sizes", [])
    return {(case["size"], case["batch"]): case["engines"] for case in cases if case["precision"] == precision}


def ratio(row, key):
    return row.get(key) if row else None


def against(folder, precision, size, chosen):
    """The lowest ratio, of passes alone or with transfers, to the peers whose names `chosen` accepts -> text, ratio."""
    engines = peers(folder, precision).get((size, 1), {})
    rows = {name: row for name, row in engines.items() if "meddino" not in name and chosen(name.lower())}
    ratios = [(name, ratio(row, key), what) for name, row in rows.items() for key, what in (("device_ratio", "device"), ("ratio", "host"))]
    ratios = [(name, value, what) for name, value, what in ratios if value is not None]
    if not ratios:
        return "not measured", None
    # Where an engine reports the time of the pass alone, only that is compared.
    device = {name for name, _, what in ratios if what == "device"}
    ratios = [entry for entry in ratios if entry[2] == "device" or entry[0] not in device]
    name, value, what = min(ratios, key=lambda entry: entry[1])
    return f"{value:.2f} ({name}, {what})", value


def targets(folder):
    pytorch = lambda name: "pytorch" in name or "torch" in name
    eager = lambda name: pytorch(name) and "compile" not in name and "graph" not in name
    compiled = lambda name: pytorch(name) and not eager(name)
    portable = lambda name: not pytorch(name)
    rows = [
        ("896, f32, against f32 eager", "f32", 896, eager, 1.0),
        ("224, f16, batch 1, against eager", "f16", 224, eager, 1.5),
        ("896, f16, against eager", "f16", 896, eager, 1.0),
        ("896, f16, against eager, first milestone", "f16", 896, eager, 0.5),
        *((f"{size}, {p}, against the fastest portable peer", p, size, portable, 1.5) for p in ("f32", "f16") for size in (224, 512, 896)),
        *((f"{size}, {p}, against torch.compile (no target)", p, size, compiled, None) for p in ("f32", "f16") for size in (224, 896)),
    ]
    print(f"{'target: PyTorch or peer / ours':<52} {'goal':>5}  found")
    for what, precision, size, chosen, goal in rows:
        found, value = against(folder, precision, size, chosen)
        verdict = "" if goal is None or value is None else "  met" if value >= goal else "  MISSED"
        print(f"{what:<52} {'' if goal is None else f'{goal:.1f}':>5}  {found}{verdict}")
    idle = [row["gpu_idle_share"] for row in lines(folder, "bench.jsonl") if row.get("gpu_idle_share") is not None]
    print(f"{'a volume: share of the time that the GPU idles':<52} {'':>5}  {'not measured' if not idle else f'{min(idle):.1%} to {max(idle):.1%}'}")


def times(folder):
    rows = [row for row in lines(folder, "bench.jsonl") if "median_s" in row]
    print(f"\n{'size':>5} {'batch':>5} {'precision':<9} {'tier':<14} {'ms, device':>10} {'ms, host':>9} {'TFLOP/s':>8} {'of product':>10}")
    for row in rows:
        device = row["device_s"]
        shown = "-" if device is None else f"{1e3 * device:.3f}"
        speed = row["gflop"] / (device or row["median_s"]) / 1e3
        print(
            f"{row['size']:>5} {row['batch']:>5} {row['precision']:<9} {row['tier'] or '-':<14} {shown:>10} {1e3 * row['median_s']:>9.3f} "
            f"{speed:>8.2f} {speed * 1e3 / row['matmul_gflop_per_s']:>10.0%}"
        )
    for row in lines(folder, "bench.jsonl"):
        if "slices" in row:
            idle = row["gpu_idle_share"]
            idle_text = "idle not known" if idle is None else f"GPU idle {idle:.1%}"
            print(f"{row['slices']} slices of {row['size']}, {row['precision']}, batch {row['batch']}: {row['slices_per_s']:.1f} a second, {idle_text}")


def volumes(folder):
    report = whole(folder, "volume.json")
    if report:
        print(f"\n{report['slices']} slices of {report['size']}, {report['precision']}, beside PyTorch: slices a second")
    for row in sorted(report.get("rows", []), key=lambda row: -row["slices_per_s"]):
        print(f"  {row['engine']:<14} batch {row['batch']:>2}, {row['sink']:<6} {row['slices_per_s']:>8.1f}")


def kernels(folder):
    for row in lines(folder, "profile.jsonl"):
        print(f"\n{row['device']}, {' x '.join(map(str, row['image']))}: {row['wall_ms']:.2f} ms")
        for kernel in row["kernels"] or []:
            print(f"  {kernel['name']:<16} {kernel['ms']:>9.3f} ms {kernel['gflop_per_s']:>9.0f} GFLOP/s {kernel['gb_per_s']:>7.0f} GB/s")


def geometries(folder):
    for row in lines(folder, "tune.jsonl"):
        print(f"\n{row['tier']} over {row['precision']}:")
        for kernel, rows in dict.fromkeys((trial["kernel"], trial["rows"]) for trial in row["trials"]):
            trials = [trial for trial in row["trials"] if (trial["kernel"], trial["rows"]) == (kernel, rows)]
            first, taken = trials[0], next(trial for trial in trials if trial["taken"])
            bad = sum(trial["problem"] is not None for trial in trials)
            gain = "" if None in (first["median_s"], taken["median_s"]) else f", {first['median_s'] / taken['median_s']:.2f} times the first's speed"
            print(f"  {kernel:<15} {rows:>5} rows: {taken['geometry']}{gain}" + (f", {bad} not used" if bad else ""))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    targets(sys.argv[1])
    times(sys.argv[1])
    volumes(sys.argv[1])
    geometries(sys.argv[1])
    kernels(sys.argv[1])
