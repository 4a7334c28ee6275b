"""A model, under the names that programs for DINOv3 and Hugging Face's transformers call."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, overload

from . import _meddino
from ._arrays import booleans, floats
from ._features import batches
from ._progress import following
from ._volume import as_volume, settings

if TYPE_CHECKING:
    from typing import Literal

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Unpack

    from ._pooled import Pooled
    from ._volume import FeatureOptions, FileOptions, Scan

    Floats: TypeAlias = npt.NDArray[np.float32]


class ModelOutput(NamedTuple):
    """What ``model(pixel_values=x)`` returns, as transformers' ``BaseModelOutputWithPooling``."""

    last_hidden_state: Floats
    """All tokens after the final norm, [B, T, C]: cls, R storage tokens, P patches."""
    pooler_output: Floats
    """The cls token after the final norm, [B, C]."""


class Model:
    """A loaded model. :func:`load` makes one.

    Images ``x`` are float32, normalised (:func:`meddino.prepare`), [B, 3, H, W] or [B, 1, H, W]; one channel stands for
    all three. They are NumPy arrays, also read-only or of any strides, or anything on the CPU with ``__dlpack__``, such
    as a ``torch.Tensor``. They are copied once. A remainder of H and W below one patch is ignored.

    Results are float32 NumPy arrays that own the memory the model wrote, or views of them; ``torch.from_numpy`` takes
    them without a copy. B images, T = 1 + R + P tokens (cls, R storage tokens, P = h * w patches row by row), C channels.

    Several threads may call one model. Python's other threads run meanwhile. Ctrl-C ends the wait at once; on the CPU
    the work ends with the block of the model that runs, on a GPU with the batch. Pickling hands on the recipe (the
    arguments of :func:`load`) and not the weights. A process may fork before the first model is loaded, not after it.

    Every method raises ``TypeError`` if ``x`` is no array or not float32, ``ValueError`` if its shape does not fit the
    model, ``MemoryError``, and ``RuntimeError`` if a device fails.
    """

    def __init__(
        self, checkpoint: str | os.PathLike[str] | None, device: str, precision: str, rope: str, progress: bool = False
    ) -> None:
        path = None if checkpoint is None else os.fspath(checkpoint)
        with following("B", progress) as follow:
            self._engine = _meddino.Engine(path, device, precision, rope, follow)
        self._recipe = (_absolute(path), device, precision, rope)
        self.config: dict[str, Any] = json.loads(self._engine.config)
        """Sizes and precisions: ``embed_dim``, ``depth``, ``num_heads``, ``norm_eps``, ``rope`` and more."""
        self.embed_dim: int = self.config["embed_dim"]
        """Width of a token, C."""
        self.n_blocks: int = self.config["depth"]
        """Number of transformer blocks."""
        self.num_heads: int = self.config["num_heads"]
        """Attention heads."""
        self.patch_size: int = self.config["patch_size"]
        """Side of a patch in pixels."""
        self.n_storage_tokens: int = self.config["n_storage_tokens"]
        """Storage (register) tokens, R."""

    @property
    def device(self) -> str:
        """The name of the device, such as ``CPU (2 threads, avx512)``."""
        return self._engine.device

    @property
    def checkpoint_id(self) -> str:
        """The SHA-256 of the weights, or the name of seeded weights."""
        return self._engine.checkpoint_id

    def get_intermediate_layers(
        self,
        x: Any,
        *,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_class_token: bool = False,
        return_extra_tokens: bool = False,
        norm: bool = True,
    ) -> tuple[Any, ...]:
        """Returns the output of the last ``n`` blocks, or of the blocks in the list ``n``, in their order in the model.

        A block gives its patch tokens [B, P, C], or with ``reshape`` [B, C, h, w]. With ``return_class_token`` it
        gives a tuple with the cls token [B, C], with ``return_extra_tokens`` one with the storage tokens [B, R, C],
        with both ``(patches, cls, extra)``. With ``norm`` the final norm is applied, as DINOv3 does.

        Raises ``ValueError`` also if ``n`` names a block that the model does not have, or one twice.
        """
        images, blocks = floats(x, "x"), self._blocks(n)
        last = self.n_blocks - 1
        named = self._forward(
            images, layers=[block for block in blocks if block != last] if norm else (), blocks=not norm
        )
        name = ("layers.{}" if norm else "blocks.{}").format
        outputs = [named["x_norm"] if norm and block == last else named[name(block)] for block in blocks]
        height, width = (side // self.patch_size for side in images.shape[2:])
        first_patch = 1 + self.n_storage_tokens

        def answer(tokens: Floats) -> Any:
            patches = tokens[:, first_patch:]
            if reshape:
                patches = patches.transpose(0, 2, 1).copy().reshape(len(tokens), self.embed_dim, height, width)
            parts = [patches]
            if return_class_token:
                parts.append(tokens[:, 0])
            if return_extra_tokens:
                parts.append(tokens[:, 1:first_patch])
            return tuple(parts) if len(parts) > 1 else patches

        return tuple(map(answer, outputs))

    def forward_features(self, x: Any, masks: Any = None) -> dict[str, Any]:
        """Returns the tokens of the last block by DINOv3's names.

        ``x_norm_clstoken`` [B, C], ``x_storage_tokens`` [B, R, C] and ``x_norm_patchtokens`` [B, P, C] after the final
        norm, ``x_prenorm`` [B, T, C] before it, and ``masks`` as given: bool [B, P], true where the mask token takes a
        patch's place, or None.
        """
        named = self._forward(x, masks=masks, prenorm=True)
        tokens, first_patch = named["x_norm"], 1 + self.n_storage_tokens
        return {
            "x_norm_clstoken": tokens[:, 0],
            "x_storage_tokens": tokens[:, 1:first_patch],
            "x_norm_patchtokens": tokens[:, first_patch:],
            "x_prenorm": named["x_prenorm"],
            "masks": masks,
        }

    @overload
    def __call__(self, x: Any, masks: Any = None, *, is_training: Literal[False] = False) -> Pooled: ...
    @overload
    def __call__(self, x: Any, masks: Any = None, *, is_training: Literal[True]) -> dict[str, Any]: ...
    @overload
    def __call__(self, *, pixel_values: Any) -> ModelOutput: ...
    def __call__(self, x: Any = None, masks: Any = None, *, is_training: bool = False, pixel_values: Any = None) -> Any:
        """Computes as the model of DINOv3 or of transformers does.

        - ``model(x)``: the cls token [B, C], an array that also has ``last_hidden_state`` [B, T, C] and
          ``pooler_output`` [B, C] as attributes.
        - ``model(x, is_training=True)``: :meth:`forward_features`.
        - ``model(pixel_values=x)``: a :class:`ModelOutput`.
        """
        if (x is None) == (pixel_values is None):
            raise TypeError("x: expected images, once, as x or as pixel_values")
        if pixel_values is not None:
            tokens = self._forward(pixel_values)["x_norm"]
            return ModelOutput(tokens, tokens[:, 0])
        if is_training:
            return self.forward_features(x, masks)
        from ._pooled import Pooled

        return Pooled.of(self._forward(x, masks=masks)["x_norm"])

    def features(
        self, scan: Scan, *, progress: bool = False, **options: Unpack[FeatureOptions]
    ) -> Iterator[tuple[list[int], dict[str, Floats]]]:
        """Computes the features of ``scan`` batch by batch; the next batch is read and computed meanwhile.

        Gives ``(slices, features)`` for each batch: the numbers of its S slices, and arrays by the names of the
        command's files. ``scan`` is a :class:`meddino.Volume` or a path. Besides the arguments of
        :func:`meddino.prepare`:

        - ``tokens``, of the last block, after the norm: ``"cls"`` as ``x_norm_clstoken`` [S, C], ``"storage"`` as
          ``x_storage_tokens`` [S, R, C], ``"patch"`` as ``x_norm_patchtokens`` [S, P, C], ``"mean"`` of the patches as
          ``x_norm_patchtokens_mean`` [S, C], and before the norm ``"prenorm"`` as ``x_prenorm`` [S, T, C]; by default
          the first three.
        - ``layers``: blocks whose tokens after the norm are given as ``layers.N`` [S, T, C].
        - ``batch``: number of slices in a batch; by default as many as the memory ``max_memory``, such as ``"4GiB"``,
          allows.
        - ``progress``: whether to show a bar, by tqdm if it is installed.

        Leaving the iterator (``close()``) ends the work. Raises as :class:`Model` does, and an ``OSError`` or
        ``ValueError`` if the scan cannot be read.
        """
        chosen = settings(**options)
        running = _meddino.features(self._engine, as_volume(scan)._scan, chosen)
        return batches(running, chosen["tokens"], 1 + self.n_storage_tokens, progress)

    def write_features(
        self,
        scan: Scan,
        output: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        progress: bool = False,
        **options: Unpack[FileOptions],
    ) -> None:
        """Writes the features of ``scan`` to a file, the same as ``meddino features`` writes, metadata included.

        Besides the arguments of :meth:`features`: ``format`` ``"safetensors"``, ``"npz"`` or ``"npy"``, by default that
        of the name's ending; ``dtype`` ``"f32"`` or ``"f16"``. A file that meddino did not write is replaced only with
        ``overwrite``. The unfinished file of a killed run is gone on with; Ctrl-C removes it. Raises as
        :meth:`features` does, and an ``OSError`` or ``ValueError`` if the file cannot or may not be written.
        """
        path = os.fspath(output)
        ending = os.path.splitext(path)[1].lower().removeprefix(".")
        if ending in ("npz", "npy", "safetensors"):
            if options.setdefault("format", ending) not in (ending, None):
                raise ValueError(
                    f"format: is {options['format']}, but the output's name ends in .{ending}; leave one of them out"
                )
            options["format"] = ending
        with following("slices", progress) as follow:
            _meddino.write_features(self._engine, as_volume(scan)._scan, settings(**options), path, overwrite, follow)

    def write_case(
        self,
        path: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        *,
        series: str | None = None,
        names: str = "file",
        overwrite: bool = False,
        progress: bool = False,
        **options: Unpack[FileOptions],
    ) -> tuple[str, bool]:
        """Writes the features of the scan at ``path`` to a file in ``folder``, and a line of the folder's manifest.

        Returns the file, and whether it was written: a case that the manifest calls finished, with the same scan,
        settings and weights, is skipped, as by ``meddino features --out-dir``. ``names`` is ``"file"``, or ``"parent"``
        to put the name of the scan's folder before that of the file. Otherwise as :meth:`write_features`.
        """
        with following("slices", progress) as follow:
            output, is_new = _meddino.write_case(
                self._engine, os.fspath(path), series, settings(**options), os.fspath(folder), names, overwrite, follow
            )
        return os.fspath(output), is_new

    def _blocks(self, n: int | Sequence[int]) -> list[int]:
        """Returns the numbers of the blocks that ``n`` means, in order."""
        depth = self.n_blocks
        if isinstance(n, int):
            if 1 <= n <= depth:
                return list(range(depth - n, depth))
            raise ValueError(f"n: expected a number of blocks from 1 to {depth}, found {n}")
        blocks = sorted(n)
        if not blocks or len(set(blocks)) < len(blocks) or not all(0 <= block < depth for block in blocks):
            raise ValueError(f"n: expected different blocks from 0 to {depth - 1}, found {list(n)}")
        return blocks

    def _forward(
        self, x: Any, *, masks: Any = None, layers: Sequence[int] = (), prenorm: bool = False, blocks: bool = False
    ) -> dict[str, Floats]:
        return self._engine.forward(
            floats(x, "x"), None if masks is None else booleans(masks, "masks"), layers, prenorm, blocks
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (Model, self._recipe)

    def __deepcopy__(self, _: Any) -> Model:
        return self

    def __repr__(self) -> str:
        checkpoint, _, precision, _ = self._recipe
        return f"meddino.Model({checkpoint or 'the released checkpoint'!r}, {precision}, on {self.device})"


def load(
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    precision: str = "f32",
    rope: str = "auto",
    progress: bool = False,
) -> Model:
    """Loads a model.

    ``checkpoint`` is a ``.pth`` or ``.safetensors`` file, ``"seeded:N"`` for untrained weights (``"seeded:N:tiny"`` and
    ``"seeded:N:micro"`` are small), or None for the released checkpoint, which is downloaded once. ``device`` is
    ``"auto"`` (the best GPU that works, else the CPU), ``"cpu"``, ``"gpu"``, or a number or a part of the name of a GPU
    (:func:`meddino.devices`). ``precision`` is ``"f32"``, ``"f16"`` on a GPU or ``"bf16"`` on a CPU that has it.
    ``rope`` is the arithmetic of the position embedding: ``"auto"`` for the checkpoint's own, ``"bf16"`` or ``"f32"``.
    ``progress`` shows a bar while the checkpoint is downloaded, by tqdm if it is installed. After Ctrl-C a download goes
    on while the process lives; what has come is kept for the next one.

    Raises ``FileNotFoundError`` or another ``OSError``, ``ValueError`` if the file holds no model or an argument is
    unknown, ``MemoryError``, and ``RuntimeError`` if the device cannot be used.
    """
    return Model(checkpoint, device, precision, rope, progress)


def _absolute(checkpoint: str | None) -> str | None:
    """Returns a name that also leads to the checkpoint from another folder."""
    return checkpoint if checkpoint is None or checkpoint.startswith("seeded:") else os.path.abspath(checkpoint)
