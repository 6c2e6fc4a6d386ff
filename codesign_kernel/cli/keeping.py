"""``codesign privacy``, ``keys``, ``backup`` and ``restore``: what an operator does about what a gateway keeps."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from codesign_kernel.cli.output import Answer, rows_text, table_text
from codesign_kernel.cli.progress import Progress
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.files import check_file, write_whole
from codesign_kernel.units import quantity

if TYPE_CHECKING:
    from codesign_kernel.server.settings import Settings
    from codesign_kernel.store import Store
    from codesign_kernel.store.backup import Places
    from codesign_kernel.store.crypto import Vault
    from codesign_kernel.store.privacy import Privacy


def _settings(args: argparse.Namespace) -> Settings:
    from codesign_kernel.server.settings import read_settings

    return read_settings(args.config, data_dir=args.data)


@contextmanager
def _opened(args: argparse.Namespace) -> Iterator[tuple[Store, Vault, Privacy]]:
    """A gateway's database, keys and people; the gateway may run meanwhile."""
    from codesign_kernel.server.folder import nobody_else, same_user
    from codesign_kernel.server.keeping import opened
    from codesign_kernel.store import Store
    from codesign_kernel.telemetry.audit import Audit

    settings = _settings(args)
    same_user(settings)
    if not settings.keys.exists():
        raise InvalidInputError(
            f"there is no gateway with the keys {settings.keys}; name its settings (--config) or its data (--data)"
        )
    with nobody_else(), Store(settings.store_url, redis_url=settings.redis_url or None) as store:
        vault, privacy = opened(settings, store, Audit(settings.audit_file))
        yield store, vault, privacy


def privacy_answer(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign privacy table|export|rename|erase|retain``."""
    if args.action == "table":
        from codesign_kernel.store.privacy import DATA, table_text

        return Answer(table_text().rstrip("\n"), {name: asdict(kind) for name, kind in DATA.items()})
    with _opened(args) as (_, _, privacy):
        if args.action == "retain":
            counts = privacy.retain()
            return Answer(rows_text(_some(counts)), counts)
        subject = privacy.subject_of(args.person)
        if args.action == "export":
            return _export(privacy, subject, args.out)
        if args.action == "rename":
            privacy.rename(subject, args.name)
            return Answer(
                rows_text([("renamed", subject), ("now", args.name)]), {"subject": subject, "name": args.name}
            )
        if not args.yes:
            raise InvalidInputError("an erasure cannot be taken back; add --yes if that is meant")
        counts = privacy.erase(subject)
        rows = [("erased", subject), *_some(counts)]
        return Answer(rows_text(rows), {"subject": subject, **counts})


def _export(privacy: Privacy, subject: str, out: Path) -> Answer:
    check_file(out)
    write_whole(out, privacy.export(subject))
    out.chmod(0o600)
    size = out.stat().st_size
    told = {"subject": subject, "out": out, "bytes": size}
    return Answer(rows_text([("exported", subject), ("written", f"{out}, {quantity(size, 'B')}")]), told)


def _some(counts: Mapping[str, int]) -> list[tuple[object, object]]:
    rows: list[tuple[object, object]] = [(name, f"{count:,}") for name, count in counts.items() if count]
    return rows or [("erased", "nothing")]


def keys_answer(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign keys show|rotate``."""
    from codesign_kernel.store.rotation import rotate, told

    with _opened(args) as (store, vault, privacy):
        if args.action == "show":
            keys = told(store, vault)
            shown = [(key["key"], key["made_at"] or "NOT IN THE FILE", f"{key['seals']:,}") for key in keys]
            lost = any(key["made_at"] is None for key in keys)
            return Answer(table_text(("key", "made", "values sealed"), shown, left=2), {"keys": keys}, not lost)
        done = rotate(store, vault, progress=lambda count: progress(0, 0, f"sealing, {count:,} values"))
        privacy.tell("keys_rotated", "", key=done.key, sealed=done.sealed, dropped=list(done.dropped))
    rows = [
        ("new key", done.key),
        ("sealed again", f"{done.sealed:,} values"),
        ("dropped", ", ".join(done.dropped) or "none"),
        *([("dropped later", f"{', '.join(done.waiting)}: by the gateway's daily look")] if done.waiting else []),
        *([("UNREADABLE", f"{done.unreadable:,} values: see `codesign keys show`")] if done.unreadable else []),
    ]
    return Answer(rows_text(rows), done._asdict(), not done.unreadable)


def _places(settings: Settings) -> Places:
    from codesign_kernel.store.backup import Places
    from codesign_kernel.telemetry.audit import key_beside

    audit = settings.audit_file
    return Places(settings.file("erased.jsonl"), settings.keys, audit, key_beside(audit))


def backup_answer(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign backup``: everything that cannot be computed again, into one file."""
    from codesign_kernel.store.backup import back_up

    settings = _settings(args)
    with _opened(args) as (store, _, privacy):
        progress(0, 0, "writing")
        counts = back_up(store, args.file, _places(settings), settings=asdict(settings), with_keys=args.with_keys)
        privacy.tell("backup", "", action="written", with_keys=args.with_keys, **counts)
    rows = [
        ("written", f"{args.file}, {quantity(counts['bytes'], 'B')}"),
        ("rows", f"{counts['rows']:,}"),
        ("artefacts", f"{counts['artefacts']:,}"),
        (
            "keys",
            "in it: keep it as you keep the keys" if args.with_keys else f"not in it: keep {settings.keys} elsewhere",
        ),
    ]
    return Answer(rows_text(rows), {"file": args.file, "with_keys": args.with_keys, **counts})


def _audit_key_missing(places: Places) -> list[tuple[str, str]]:
    """The trail cannot be gone on with, and so the gateway not started, without its key."""
    trail, key = places.audit, places.audit_key
    if trail is None or key is None or key.exists() or not trail.exists():
        return []
    return [("MISSING", f"the audit trail's key: put it into {key}")]


def restore_answer(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign restore``: a backup into an empty place."""
    from codesign_kernel.server.folder import alone, nobody_else
    from codesign_kernel.store.restore import restore
    from codesign_kernel.telemetry.audit import Audit

    settings = _settings(args)
    progress(0, 0, "checking")
    places = _places(settings)
    new = not settings.data_dir.exists()
    with nobody_else():
        counts = restore(args.file, settings.store_url, places, erased=args.erased, revoke_tokens=args.revoke_tokens)
        if places.audit_key is not None and (places.audit_key.exists() or not settings.audit_file.exists()):
            Audit(settings.audit_file).write("backup", "", action="restored", **counts)
    if new and settings.data_dir.exists():
        alone(settings.data_dir)
    rows = [
        ("restored", "the database of the settings" if settings.database_url else settings.file("store.db")),
        ("rows", f"{counts['rows']:,}"),
        ("artefacts", f"{counts['artefacts']:,}"),
        ("files", f"{counts['files']:,}"),
        ("erased again", f"{counts['erased']:,} people"),
        *([] if settings.keys.exists() else [("MISSING", f"the keys: put them into {settings.keys}")]),
        *_audit_key_missing(places),
    ]
    return Answer(rows_text(rows), counts)
