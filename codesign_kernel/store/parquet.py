"""Evaluations out of a stranger's Parquet file, within bounds."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from codesign_kernel.errors import ArchiveError
from codesign_kernel.store.rows import RESERVED

if TYPE_CHECKING:
    import pandas as pd

#: Values (rows x columns) and letters of one text: run lengths and dictionaries make a small file of any number.
_VALUES = 1 << 29
_TEXT_BYTES = 1 << 16
_UNPACKED_BYTES = 8 << 30


def bounded_frame(content: bytes, wrong: Callable[[str], ArchiveError]) -> pd.DataFrame:
    """The frame: design numbers as its index, and the column ``_batch``.

    Args:
        content: the file.
        wrong: makes the error from the reason.

    Raises:
        ArchiveError: it is no such table, or too large.
    """
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    kinds = pyarrow.types
    try:
        schema = pyarrow.parquet.read_schema(io.BytesIO(content))
        texts = [field.name for field in schema if kinds.is_string(field.type) or kinds.is_large_string(field.type)]
        plain = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_null)
        others = [f.name for f in schema if f.name not in texts and not any(is_kind(f.type) for is_kind in plain)]
        if others or len(set(schema.names)) != len(schema) or not set(RESERVED) <= set(schema.names):
            raise wrong("its evaluations are no table of numbers and text with design and _batch")
        # as dictionaries, so that a long text that is repeated is in memory once until its length is known
        opened = pyarrow.parquet.ParquetFile(io.BytesIO(content), read_dictionary=texts)
        shape = opened.metadata
        unpacked = sum(shape.row_group(i).total_byte_size for i in range(shape.num_row_groups))
        if shape.num_rows * shape.num_columns > _VALUES or unpacked > _UNPACKED_BYTES:
            raise wrong(
                f"its evaluations are {shape.num_rows:,} rows of {shape.num_columns:,} columns, which is too many"
            )
        table = opened.read()
        for name in texts:
            for piece in table[name].chunks:
                words = piece.dictionary if kinds.is_dictionary(piece.type) else piece
                longest = pyarrow.compute.max(pyarrow.compute.binary_length(words)).as_py()
                if (longest or 0) > _TEXT_BYTES:
                    raise wrong(f"a text in its evaluations is longer than {_TEXT_BYTES:,} bytes")
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, table[name].cast(pyarrow.string()))
        frame = table.to_pandas(ignore_metadata=True)
    except (pyarrow.ArrowException, OSError, OverflowError) as error:
        raise wrong(f"its evaluations cannot be read ({str(error)[:100]})") from error
    if not frame[list(RESERVED)].dtypes.map(lambda kind: kind.kind in "iu").all():
        raise wrong("the numbers of its designs are no integers")
    return frame.set_index("design")
