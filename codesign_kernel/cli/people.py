"""``codesign user`` and ``codesign token``: who may come in. A running gateway asks at every request."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from codesign_kernel.cli.output import Answer, rows_text, table_text
from codesign_kernel.cli.progress import Progress
from codesign_kernel.errors import InvalidInputError

if TYPE_CHECKING:
    from codesign_kernel.store.people import People, Person
    from codesign_kernel.telemetry.audit import Audit


@contextmanager
def _opened(args: argparse.Namespace) -> Iterator[tuple[People, Audit]]:
    """A gateway's people, and the trail that is told what was done to them."""
    from codesign_kernel.server.folder import nobody_else, private, same_user
    from codesign_kernel.server.settings import read_settings
    from codesign_kernel.store import Store
    from codesign_kernel.store.people import People
    from codesign_kernel.telemetry.audit import Audit

    settings = read_settings(args.config, data_dir=args.data)
    same_user(settings)
    private(settings)
    with nobody_else(), Store(settings.store_url) as store:
        yield People(store), Audit(settings.audit_file)


def _known(people: People, name: str) -> Person:
    found = people.by_name(name)
    if found is None:
        raise InvalidInputError(f"there is no person called {name!r:.60}; see `codesign user list`")
    return found


def _password(args: argparse.Namespace) -> str:
    """From the file, or typed twice."""
    if args.password_file is not None:
        try:
            lines = args.password_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"the password file cannot be read: {error}") from error
        return str(lines[0]) if lines else ""
    if not sys.stdin.isatty():
        raise InvalidInputError("a password is asked for on a terminal, and this is none; use --password-file")
    typed = getpass.getpass(f"Password for {args.name}: ", stream=sys.stderr)
    if getpass.getpass("Again: ", stream=sys.stderr) != typed:
        raise InvalidInputError("the two passwords differ; nothing was changed")
    return typed


def _hashed(args: argparse.Namespace) -> str:
    from codesign_kernel.server.passwords import hashed

    return hashed(_password(args), args.name)


def user_answer(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign user add|list|role|disable|enable|password``."""
    with _opened(args) as (people, audit):
        if args.action == "list":
            return _everyone(people)
        if args.action == "add":
            if people.by_name(args.name) is not None:
                raise InvalidInputError(f"there is a person called {args.name!r:.60} already; choose another name")
            made = people.add(args.name, _role(args), password_hash=_hashed(args))
            audit.write("person_added", made.subject, role=made.role)
            return _told(made, "added")
        person = _known(people, args.name)
        if args.action == "role":
            people.set_role(person.subject, _role(args))
        elif args.action == "password":
            if person.provider != "password":
                raise InvalidInputError(f"{person.name!r:.60} signs in by {person.provider}, and has no password here")
            people.set_password_hash(person.subject, _hashed(args))
        else:
            people.disable(person.subject, args.action == "disable")
        audit.write("person_changed", person.subject, what=args.action)
        return _told(_known(people, args.name), "changed")


def _role(args: argparse.Namespace) -> str:
    return "" if args.role == "none" else str(args.role)


def _plain(person: Person) -> dict[str, object]:
    return {
        "name": person.name,
        "role": person.role or "none",
        "provider": person.provider,
        "disabled": person.disabled,
        "subject": person.subject,
    }


def _told(person: Person, done: str) -> Answer:
    return Answer(rows_text([(done, person.name), *list(_plain(person).items())[1:]]), _plain(person))


def _everyone(people: People) -> Answer:
    rows = [_plain(person) for person in people.everyone()]
    header = ("name", "role", "provider", "disabled", "subject")
    shown = [
        [row["name"], row["role"], row["provider"], "yes" if row["disabled"] else "no", row["subject"]] for row in rows
    ]
    return Answer(table_text(header, shown, left=5) if rows else "Nobody yet.", {"people": rows})


def token_answer(args: argparse.Namespace, progress: Progress) -> Answer:
    """``codesign token create|list|revoke``."""
    with _opened(args) as (people, audit):
        if args.action == "create":
            person = _known(people, args.name)
            wanted = [name.strip() for name in args.capabilities.split(",") if name.strip()]
            made, text = people.create_token(person, args.label, wanted, args.days)
            audit.write("token_created", person.subject, id=made.id, capabilities=wanted, days=args.days)
            body = {
                "id": made.id,
                "token": text,
                "capabilities": sorted(wanted),
                "expires_at": made.expires_at.isoformat(),
            }
            return Answer(
                f"{text}\n\nIt is good until {made.expires_at:%Y-%m-%d %H:%M} UTC and is not shown again.", body
            )
        if args.action == "revoke":
            if not people.revoke_token(args.id):
                raise InvalidInputError("there is no such token that is good; see `codesign token list`")
            audit.write("token_revoked", id=args.id)
            return Answer(rows_text([("revoked", args.id)]), {"revoked": args.id})
        subject = _known(people, args.name).subject if args.name else None
        names = {person.subject: person.name for person in people.everyone()}
        rows = [
            {
                "id": one.id,
                "name": names.get(one.owner, ""),
                "label": one.label,
                "state": one.state(people.now()),
                "capabilities": sorted(one.capabilities),
                "expires_at": one.expires_at.isoformat(timespec="minutes"),
            }
            for one in people.tokens(subject)
        ]
        header = ("id", "name", "label", "state", "capabilities", "expires_at")
        shown = [[", ".join(row[key]) if key == "capabilities" else row[key] for key in header] for row in rows]
        return Answer(table_text(header, shown, left=6) if rows else "No tokens.", {"tokens": rows})
