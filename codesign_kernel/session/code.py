"""Which code decides over a result: what other code has made is not taken for its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_KERNEL = Path(__file__).parents[1]


def digest_of_code(rooms: Iterable[str]) -> str:
    """SHA-256 of the code and of the tables of some rooms: ``cost`` is a folder, ``session/explore`` a file."""
    return hashlib.sha256("".join(map(_room, rooms)).encode()).hexdigest()


@cache
def _room(name: str) -> str:
    folder = _KERNEL / name
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".json"))
    body = hashlib.sha256(name.encode())
    for path in files or [folder.with_suffix(".py")]:
        body.update(path.relative_to(_KERNEL).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return body.hexdigest()
