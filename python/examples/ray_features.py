"""Features of a folder of scans on a Ray cluster.

    python ray_features.py scans/ features/ --actors 2 --cpus 2                  # a cluster on this machine
    python ray_features.py /data/scans /data/features --address auto --gpus 1    # the cluster that runs here

Run it again to compute what is missing. Needs `pip install meddino[ray]`.
"""

import argparse
from pathlib import Path

import ray

import meddino.ray

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".npy")


def run(arguments: argparse.Namespace):
    """Returns a row for each scan: path, output, status, error, seconds, worker."""
    paths = sorted(str(path.resolve()) for path in Path(arguments.scans).rglob("*") if path.name.endswith(ENDINGS))
    ray.init(address=arguments.address, log_to_driver=False)
    options = {"tokens": arguments.tokens.split(","), "size": arguments.size}
    report = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=len(paths)).map_batches(
        meddino.ray.Features,
        # One scan at a time, so that a worker that dies takes no other scan with it.
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=arguments.actors),
        num_cpus=arguments.cpus,
        num_gpus=arguments.gpus,
        fn_constructor_kwargs={
            "folder": str(Path(arguments.folder).resolve()),
            "checkpoint": arguments.checkpoint,
            "device": arguments.device,
            "options": options,
        },
    )
    return report.take_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", help="the folder of scans, under the same path on every machine")
    parser.add_argument("folder", help="the folder of features, under the same path on every machine")
    parser.add_argument("--address", help="the cluster, such as auto; by default one on this machine")
    parser.add_argument("--actors", type=int, default=2, help="number of models that are loaded at once")
    parser.add_argument("--cpus", type=float, default=1, help="cores that an actor needs")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs that an actor needs")
    parser.add_argument("--checkpoint", help="a file that every machine sees, or seeded:N; by default the released one")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", default="native")
    parser.add_argument("--tokens", default="cls")
    rows = run(parser.parse_args())
    for row in rows:
        print(f"{row['status']:8} {row['seconds']:7.2f} s  {row['worker']}  {row['path']}  {row['error']}")
    failed = sum(row["status"] == "failed" for row in rows)
    print(f"{len(rows)} scans, {failed} failed")
    raise SystemExit(3 if failed else 0)


if __name__ == "__main__":
    main()
