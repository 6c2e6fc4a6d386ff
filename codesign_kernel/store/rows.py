"""Evaluations between a pandas frame and rows of text, without loss."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign_kernel.errors import InvalidInputError

if TYPE_CHECKING:
    import pandas as pd

#: A column that holds no numbers and no truth values.
TEXT = "text"
#: Names that an exported table uses itself.
RESERVED = ("design", "_batch")
#: Types of numbers and truth values, which come back as they were.
TYPES = (
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
)
_INFINITE = {float("inf"): "Infinity", float("-inf"): "-Infinity"}


def encode(frame: pd.DataFrame) -> tuple[dict[str, str], list[int], list[str]]:
    """({column: type}, design numbers, results as JSON objects), in the order of the numbers.

    A float comes back to the last bit; NaN is null, and an infinity a word, as JSON has neither.

    Raises:
        InvalidInputError: the index holds no design numbers, or a column is of a type that is not kept.
    """
    if not len(frame):
        return {}, [], []
    numbers = np.asarray(frame.index)
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0:
        raise InvalidInputError(
            f"the index of evaluations is the design's number, 0 or more, but got {frame.index[:3].tolist()!r:.80}...; "
            "use set_index"
        )
    if not frame.columns.is_unique:
        raise InvalidInputError("the columns of evaluations have different names, but two are the same; rename one")
    frame = frame.iloc[np.argsort(numbers, kind="stable")]
    types, columns = {}, []
    for name in frame.columns:
        if not isinstance(name, str) or not name or name in RESERVED:
            raise InvalidInputError(
                f"a column of evaluations has a text as its name, none of {', '.join(RESERVED)}, "
                f"but got {name!r:.60}; rename it"
            )
        types[name], values = _encoded(name, frame[name])
        columns.append(values)
    dump = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
    names = [*types]
    rows = zip(*columns, strict=True) if columns else ((),) * len(frame)
    return types, [int(n) for n in frame.index], [dump(dict(zip(names, row, strict=True))) for row in rows]


def _encoded(name: str, series: pd.Series) -> tuple[str, list[Any]]:
    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.name in TYPES:
        values = series.to_numpy()
        if dtype.kind != "f" or np.isfinite(values).all():
            return dtype.name, values.tolist()
        return dtype.name, [None if v != v else _INFINITE.get(v, v) for v in values.tolist()]
    values = [None if gone else value for value, gone in zip(series.tolist(), series.isna().tolist(), strict=True)]
    if all(value is None or isinstance(value, str) for value in values):
        return TEXT, values
    odd = next(value for value in values if value is not None and not isinstance(value, str))
    raise InvalidInputError(
        f"a column of evaluations holds numbers, truth values or text, but {name!r} is {dtype} with a "
        f"{type(odd).__name__}; convert it, or leave it out"
    )


def decode(types: Mapping[str, str], numbers: Sequence[int], results: Sequence[str]) -> pd.DataFrame:
    """The frame of rows that all have the columns ``types``."""
    import pandas as pd

    rows = json.loads(f"[{','.join(results)}]")
    columns = {}
    for name, kind in types.items():
        values = [row[name] for row in rows]
        columns[name] = pd.Series(values, dtype="str") if kind == TEXT else np.array(values, dtype=np.dtype(kind))
    frame = pd.DataFrame(columns, index=range(len(rows)))
    frame.index = pd.Index(np.asarray(numbers, dtype=np.int64), name="design")
    return frame


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows of ``frames`` by design number; a column that some of them lack is empty there."""
    import pandas as pd

    if not frames:
        return pd.DataFrame(index=pd.Index(np.zeros(0, dtype=np.int64), name="design"))
    return pd.concat(frames).sort_index(kind="stable")
