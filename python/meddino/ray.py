"""Features of many scans on many machines, by Ray Data.

>>> import ray, meddino.ray                                                      # doctest: +SKIP
>>> rows = ray.data.from_items([{"path": "a.nii.gz"}, {"path": "b.nii.gz"}])     # doctest: +SKIP
>>> report = rows.map_batches(                                                   # doctest: +SKIP
...     meddino.ray.Features, batch_size=1, batch_format="numpy",
...     compute=ray.data.ActorPoolStrategy(size=2), num_cpus=2,
...     fn_constructor_kwargs={"folder": "features", "options": {"size": 896, "tokens": "cls"}})
>>> report.to_pandas()                                                           # doctest: +SKIP

This module does not import Ray: the class is an ordinary one, which Ray calls.
"""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING, Any

from ._model import load

if TYPE_CHECKING:
    import numpy.typing as npt

    Columns = dict[str, npt.NDArray[Any]]


class Features:
    """A callable class for ``ray.data.Dataset.map_batches``: rows are paths of scans, and features go to files.

    Each actor loads the model once. It reads a scan, computes, and writes ``NAME.safetensors`` and a line of
    ``manifest.jsonl`` to ``folder`` itself, so that no features travel; all workers must see the scans and the folder
    under the same paths. A case that the manifest calls finished, with the same scan, settings and weights, is skipped,
    as by ``meddino features --out-dir``, whose files and manifest these are. A case that fails is a row with its
    reason. If a worker dies, Ray gives its rows to another one, which goes on with an unfinished file.

    - ``folder``: the folder of outputs, created if missing.
    - ``checkpoint``, ``device``, ``precision``, ``rope``: as in :func:`meddino.load`.
    - ``names``: ``"file"`` names outputs by the scans' file names, ``"parent"`` by the folder, too: ``s1/ct.nii.gz``
      becomes ``s1_ct``.
    - ``overwrite``: whether to replace files that meddino did not write.
    - ``options``: arguments of :meth:`meddino.Model.write_features`, such as ``{"size": 896, "tokens": "cls"}``.

    Give ``map_batches`` an integer ``batch_size`` (1 for scans of minutes), a ``compute`` of
    ``ray.data.ActorPoolStrategy``, and what an actor needs: ``num_gpus=1``, or ``num_cpus`` as many cores as it may
    use.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "f32",
        rope: str = "auto",
        names: str = "file",
        overwrite: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        self._folder, self._names, self._overwrite, self._options = os.fspath(folder), names, overwrite, options or {}
        self._model = load(checkpoint, device=device, precision=precision, rope=rope)

    def __call__(self, batch: Columns) -> Columns:
        """Computes the scans in the column ``path``.

        Adds the columns ``output`` (the file's path, empty if it failed), ``status`` (``"written"``, ``"skipped"`` or
        ``"failed"``), ``error`` (the reason, else empty), ``seconds`` and ``worker`` (host and process).
        """
        import numpy as np

        rows = [self._row(str(path)) for path in batch["path"]]
        return {**batch, **{name: np.array([row[name] for row in rows]) for name in rows[0]}} if rows else batch

    def _row(self, path: str) -> dict[str, Any]:
        began = time.monotonic()
        row: dict[str, Any] = {"output": "", "status": "failed", "error": ""}
        try:
            output, is_new = self._model.write_case(
                path, self._folder, names=self._names, overwrite=self._overwrite, **self._options
            )
            row.update(output=output, status="written" if is_new else "skipped")
        except (OSError, ValueError, TypeError, MemoryError, RuntimeError) as error:
            row["error"] = f"{type(error).__name__}: {error}"
        return row | {"seconds": time.monotonic() - began, "worker": f"{platform.node()}:{os.getpid()}"}
