"""The exhaustive sweep: every design of a space, a chunk of columns at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign_kernel.design import DesignSpace

if TYPE_CHECKING:
    import pandas as pd

#: Designs evaluated at once: arrays of this length stay in a core's cache.
CHUNK = 16384

Progress = Callable[[int, int, str], None]


def sweep(
    space: DesignSpace,
    evaluate: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    *,
    indices: Any = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One row a design: its parameters, and what ``evaluate`` says of them.

    Args:
        space: what to sweep.
        evaluate: from arrays by parameter to arrays by result, all of one length.
        indices: numbers of the designs to evaluate; all without.
        progress: called as ``progress(done, total, message)`` after each chunk.

    Returns:
        A frame whose index is the number of the design.
    """
    import pandas as pd

    chosen = np.arange(space.size) if indices is None else np.asarray(indices, dtype=np.int64)
    frames = []
    for start in range(0, len(chosen), CHUNK):
        part = chosen[start : start + CHUNK]
        columns = space.columns(part)
        frames.append(pd.DataFrame({**columns, **evaluate(columns)}, index=pd.Index(part, name="design")))
        if progress is not None:
            progress(min(start + CHUNK, len(chosen)), len(chosen), "designs evaluated")
    if not frames:
        return pd.DataFrame(columns=[*space.parameters])
    return pd.concat(frames)
