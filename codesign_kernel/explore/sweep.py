"""The exhaustive sweep: every design of a space, a chunk of columns at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign_kernel.accelerator.columns import Grid
from codesign_kernel.design import DesignSpace
from codesign_kernel.errors import InvalidInputError

if TYPE_CHECKING:
    import pandas as pd

#: Designs evaluated at once: enough to outweigh the calls, and few enough for their arrays to stay in a core's cache.
CHUNK = 16384
#: The same where they are all combinations of some choices, most of whose arrays are much smaller.
GRID = 131072

Progress = Callable[[int, int, str], None]


def sweep(
    space: DesignSpace,
    evaluate: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    *,
    indices: Any = None,
    progress: Progress | None = None,
    chunk: int | None = None,
) -> pd.DataFrame:
    """One row a design: its parameters, and what ``evaluate`` says of them.

    Args:
        space: what to sweep.
        evaluate: from arrays by parameter to arrays by result, all of one length. Of a whole space the arrays come as
            a :class:`Grid`, for those who can make use of its axes.
        indices: numbers of the designs to evaluate, at least one; all without.
        progress: called as ``progress(done, total, message)`` after each chunk.
        chunk: designs that ``evaluate`` is given at once; ``CHUNK``, or ``GRID`` of a whole space, without.

    Returns:
        A frame whose index is the number of the design.

    Raises:
        InvalidInputError: ``indices`` is empty, or not a list of design numbers.
    """
    import pandas as pd

    chosen = np.arange(space.size) if indices is None else np.asarray(indices)
    if chosen.ndim != 1 or not len(chosen) or not np.issubdtype(chosen.dtype, np.integer):
        raise InvalidInputError(
            f"indices is a list of design numbers, 0 to {space.size - 1}, but got {indices!r}; "
            "turn a mask into numbers with numpy.flatnonzero"
        )
    chunks = _grids(space, chunk or GRID) if indices is None else _chunks(space, chosen, chunk or CHUNK)
    found: dict[str, list[Any]] = {}
    done = 0
    for columns in chunks:
        for name, values in {**columns, **evaluate(columns)}.items():
            found.setdefault(name, []).append(values)
        done += len(next(iter(columns.values())))
        if progress is not None:
            progress(done, len(chosen), "designs evaluated")
    # piece by piece, so that no column is held twice for longer than it takes to join it
    whole = {name: np.concatenate(found.pop(name)) for name in [*found]}
    return pd.DataFrame(whole, index=pd.Index(chosen, name="design"), copy=False)


def _chunks(space: DesignSpace, indices: Any, chunk: int) -> Iterator[dict[str, Any]]:
    """The parameters of the designs ``indices``, ``chunk`` at a time."""
    for start in range(0, len(indices), chunk):
        yield space.columns(indices[start : start + chunk])


def _grids(space: DesignSpace, room: int) -> Iterator[Grid]:
    """The whole space in order: see :func:`grid_choices`."""
    for choices in itertools.product(*grid_choices(space, room)):
        yield Grid(dict(zip(space.parameters, choices, strict=True)))


def grid_choices(space: DesignSpace, room: int) -> list[list[Any]]:
    """The choices of each parameter in runs, so that the product of one run each has at most ``room`` designs, which
    follow one another: of the last parameters all choices, of one before them a run, of the first one each."""
    pieces: list[list[Any]] = []
    for values in reversed(space.choices.values()):
        run = max(1, min(room, len(values)))
        pieces.insert(0, [np.array(values)[i : i + run] for i in range(0, len(values), run)])
        room //= len(values)
    return pieces
