"""A plain PyTorch data set of prepared slices, whose batches go through meddino and come back without a copy.

    python torch_dataset.py scan.nii.gz [CHECKPOINT]

Needs torch.
"""

import sys

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import meddino


class Slices(Dataset):
    """The slices of scans as normalised images [1, H, W], and where they come from: (scan, slice)."""

    def __init__(self, paths: list[str], size: int = 224):
        self.volumes, self.size = [meddino.Volume(path) for path in paths], size
        self.places = [(scan, index) for scan, volume in enumerate(self.volumes) for index in range(volume.shape[0])]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, tuple[int, int]]:
        scan, index = self.places[at]
        image = meddino.prepare(self.volumes[scan], size=self.size, slices=index)[0]
        return torch.from_numpy(image), (scan, index)


def features(paths: list[str], checkpoint: str | None = None, batch_size: int = 4) -> torch.Tensor:
    """Returns the cls token of every slice, [S, C]."""
    model = meddino.load(checkpoint)
    # Workers must not be forks of a process that has computed: `spawn` starts fresh ones.
    loader = DataLoader(Slices(paths), batch_size=batch_size, num_workers=1, multiprocessing_context="spawn")
    return torch.cat([torch.from_numpy(np.asarray(model(images))) for images, _ in loader])


if __name__ == "__main__":
    path, *checkpoint = sys.argv[1:]
    print(features([path], checkpoint[0] if checkpoint else None).shape)
