"""Profiles of the zoo that were made before: to look at a well-known network without loading torch.

``python -m codesign_kernel.profiler.stored`` makes the file again; a test holds it to what ``profile`` gives
for the modules of the zoo.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib import resources
from pathlib import Path

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler.packing import pack, unpack
from codesign_kernel.profiler.result import Profile

_FILE = "zoo.json.gz"


def stored_names() -> tuple[str, ...]:
    """The networks of the zoo, in its order."""
    return tuple(_packed())


def stored_profile(name: str) -> Profile:
    """The profile of a network of the zoo, equal to ``profile(*zoo.build(name), name)``.

    Raises:
        InvalidInputError: the zoo has no such network.
    """
    if name not in _packed():
        raise InvalidInputError(f"the zoo has no network {name!r:.60}; it has {', '.join(_packed())}")
    return unpack(_packed()[name])


@cache
def _packed() -> dict[str, str]:
    data = resources.files("codesign_kernel.profiler").joinpath("data", _FILE).read_bytes()
    return dict(json.loads(gzip.decompress(data)))


def write() -> Path:
    """Profile every network of the zoo and store the results; returns the file."""
    from codesign_kernel.profiler import profile, zoo

    packed = {name: pack(profile(*zoo.build(name), name)) for name in zoo.names()}
    path = Path(__file__).parent / "data" / _FILE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps(packed).encode(), mtime=0))
    return path


if __name__ == "__main__":
    print(write())
