"""The cls token, as an array with the names of transformers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Pooled(np.ndarray[tuple[int, int], np.dtype[np.float32]]):
    """The cls token after the final norm, [B, C]: what ``model(x)`` returns."""

    last_hidden_state: npt.NDArray[np.float32]
    """All tokens after the final norm, [B, T, C]."""

    @classmethod
    def of(cls, tokens: npt.NDArray[np.float32]) -> Pooled:
        """Returns the cls token of ``tokens`` [B, T, C], without a copy."""
        pooled = tokens[:, 0].view(cls)
        pooled.last_hidden_state = tokens
        return pooled

    @property
    def pooler_output(self) -> npt.NDArray[np.float32]:
        """The same values as a plain array, [B, C]."""
        return self.view(np.ndarray)
