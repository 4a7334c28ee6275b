"""A transform of dictionaries, as MONAI's: adds the features of a volume to a case.

    python monai_transform.py scan.nii.gz

MONAI is not needed: its `Compose` and its data sets take any callable from dict to dict. A copy or a pickle of the
transform holds the model's recipe, so that worker processes load their own weights. Start them with `spawn`, because a
process cannot compute after a fork.
"""

import sys
from typing import Any

import numpy as np

import meddino


class MedDINOFeaturesd:
    """Reads `case[key]`, a path, or HU [S, H, W] with `case[key + "_affine"]`, and adds `case[output]`.

    `tokens` is as in `Model.features`: "cls" adds [S, C], "mean" [S, C], "patch" [S, P, C].
    """

    def __init__(
        self,
        key: str = "image",
        output: str = "features",
        checkpoint: str | None = None,
        tokens: str = "cls",
        **options: Any,
    ):
        self.key, self.output, self.tokens, self.options = key, output, tokens, options
        self.model = meddino.load(checkpoint)

    def __call__(self, case: dict[str, Any]) -> dict[str, Any]:
        scan = case[self.key]
        if not isinstance(scan, str):
            scan = meddino.Volume.from_array(scan, case.get(self.key + "_affine"))
        batches = [features for _, features in self.model.features(scan, tokens=self.tokens, **self.options)]
        (name,) = batches[0]
        return {**case, self.output: np.concatenate([batch[name] for batch in batches])}


if __name__ == "__main__":
    path, *checkpoint = sys.argv[1:]
    transform = MedDINOFeaturesd(checkpoint=checkpoint[0] if checkpoint else None, size=224)
    print(transform({"image": path})["features"].shape)
