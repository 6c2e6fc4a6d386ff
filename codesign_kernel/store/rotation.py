"""A new key for what is sealed: every row is sealed again, and the old key goes when it opens nothing any more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import LargeBinary, func, literal, select, update

from codesign_kernel.errors import StoreError
from codesign_kernel.store.crypto import HEAD, MAGIC, Key, Vault, key_of
from codesign_kernel.store.database import Database
from codesign_kernel.store.schema import BelongingRow, JobRow
from codesign_kernel.store.store import Store

#: Columns whose content may be sealed, each with its row's key: all bytes of jobs and belongings.
SEALED: tuple[tuple[Any, Any], ...] = tuple(
    (table.id, getattr(table, column.name))
    for table in (JobRow, BelongingRow)
    for column in table.__table__.columns
    if isinstance(column.type, LargeBinary)
)
#: Rows that are sealed again in one transaction: others can write in between.
_BATCH = 8
#: For so long an old key stays although nothing is sealed by it: somebody may have sealed with it and not yet written.
GRACE = timedelta(hours=1)


class Rotated(NamedTuple):
    """What a rotation did.

    Attributes:
        key: the name of the newest key.
        sealed: values that were sealed again.
        unreadable: values that no key here opens; their keys' names are still needed.
        dropped: names of the keys that went.
        waiting: names of the keys that open nothing any more, and go later.
    """

    key: str
    sealed: int
    unreadable: int
    dropped: tuple[str, ...]
    waiting: tuple[str, ...]


def rotate(
    store: Store, vault: Vault, *, grace: timedelta = GRACE, progress: Callable[[int], None] = lambda done: None
) -> Rotated:
    """Seal everything with a new key; after a rotation that was cut off, go on with its key instead.

    A gateway may run meanwhile. An old key goes when nothing is sealed by it and a newer one is older than ``grace``:
    :func:`drop_old` does the rest later.

    Raises:
        StoreError: the keys file or the database refused.
    """
    database = store._database
    newest = vault.keys[0]
    others = {name for name, _ in _sealed_by(database).items() if name != newest.id}
    if not others & {key.id for key in vault.keys}:
        newest = vault.add_key()
    sealed = unreadable = 0
    for identity, column in SEALED:
        after = ""
        while batch := _batch(database, vault, newest, identity, column, after):
            after, again, lost = batch
            sealed += again
            unreadable += lost
            progress(sealed)
    dropped, waiting = drop_old(store, vault, grace=grace)
    return Rotated(newest.id, sealed, unreadable, dropped, waiting)


def drop_old(store: Store, vault: Vault, *, grace: timedelta = GRACE) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Drop the keys that seal nothing: (names of those that went, of those whose ``grace`` is not over).

    Raises:
        StoreError: the keys file or the database refused.
    """
    keys = vault.keys
    used = _sealed_by(store._database)
    idle = [key for key in keys[1:] if key.id not in used]
    over = [key for key in idle if _replaced_at(keys, key) <= datetime.now(UTC) - grace]
    for key in over:
        vault.drop_key(key.id)
    return tuple(key.id for key in over), tuple(key.id for key in idle if key not in over)


def told(store: Store, vault: Vault) -> list[dict[str, Any]]:
    """One entry a key, the newest first, lost ones last: {"key", "made_at", "seals": how many values it sealed}."""
    used = _sealed_by(store._database)
    known = [{"key": key.id, "made_at": key.made_at.isoformat(), "seals": used.pop(key.id, 0)} for key in vault.keys]
    return [*known, *({"key": name, "made_at": None, "seals": count} for name, count in sorted(used.items()))]


def needed(store: Store) -> dict[str, int]:
    """{name of a key: values that nothing else opens}."""
    return _sealed_by(store._database)


def _replaced_at(keys: tuple[Key, ...], key: Key) -> datetime:
    """When the next newer key was made."""
    return keys[keys.index(key) - 1].made_at


def _is_sealed(column: Any) -> Any:
    """Whether a cell is sealed, for a query."""
    return func.substr(column, 1, len(MAGIC)) == literal(MAGIC, LargeBinary)


def _sealed_by(database: Database) -> dict[str, int]:
    """{name of a key: values that it sealed}."""
    counts: dict[str, int] = {}
    with database.read(snapshot=True) as connection:
        for _, column in SEALED:
            head = func.substr(column, 1, HEAD)
            for found, count in connection.execute(select(head, func.count()).where(_is_sealed(column)).group_by(head)):
                if (name := key_of(found)) is not None:
                    counts[name] = counts.get(name, 0) + count
    return counts


def _batch(
    database: Database, vault: Vault, newest: Key, identity: Any, column: Any, after: str
) -> tuple[str, int, int] | None:
    """Seal some rows behind ``after`` again: (the last of them, values sealed, values unreadable)."""
    wanted = (
        select(identity, column)
        .where(identity > after, _is_sealed(column), func.substr(column, 1, HEAD) != literal(newest.head, LargeBinary))
        .order_by(identity)
        .limit(_BATCH)
        .with_for_update()
    )
    sealed = unreadable = 0
    with database.write() as connection:
        rows = connection.execute(wanted).all()
        for number, content in rows:
            try:
                again = vault.seal(vault.open(content))
            except StoreError:
                unreadable += 1
                continue
            connection.execute(update(identity.class_).where(identity == number).values({column.key: again}))
            sealed += 1
    return (rows[-1][0], sealed, unreadable) if rows else None
