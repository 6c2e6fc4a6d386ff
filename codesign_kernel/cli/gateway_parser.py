"""The options of ``codesign serve`` and ``codesign audit``."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

from codesign_kernel.cli.actions import add_actions
from codesign_kernel.cli.numbers import count, port


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Where the gateway's settings, apps and data are, and where it listens."""
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="settings, see docs/serve.md (default: none)")
    parser.add_argument("--host", metavar="ADDRESS", help="listen there (default 127.0.0.1: this machine only)")
    parser.add_argument("--port", type=port, metavar="N", help="0 takes any free one (default 8866)")
    parser.add_argument(
        "--apps", type=Path, metavar="DIR", help="notebooks with their scope files (default voila_apps)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="where everything is kept (default: the user's own)")
    parser.add_argument("--open", action="store_true", help="open the gallery in a browser")


def add_audit(parser: argparse.ArgumentParser) -> None:
    """What to do with the audit trail, and which."""
    actions = add_actions(
        parser,
        {
            "verify": "say whether the trail is as it was written; exit status 1 if not",
            "show": "print entries, the latest first",
        },
    )
    for sub in actions.values():
        sub.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the trail (default: the gateway's own)")
        sub.add_argument("--key", type=Path, metavar="FILE", help="its key (default: beside it)")
    show = actions["show"]
    show.add_argument("--event", default="", metavar="NAME", help="only this event, or all that begin so")
    show.add_argument("--who", default="", metavar="SUBJECT", help="only of this person, by the random name")
    show.add_argument("--since", type=since, metavar="TIME", help="30m, 12h, 7d, or a time such as 2025-01-31")
    show.add_argument("--count", type=count, default=50, metavar="N", help="at most (default 50)")


def since(text: str) -> datetime:
    """A time, or how long ago."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:], 0)
    if unit and text[:-1].isdecimal() and len(text) < 10:
        return datetime.now(UTC) - timedelta(seconds=unit * int(text[:-1]))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"is 30m, 12h, 7d or a time such as 2025-01-31T12:00, but got {text!r}"
        ) from None
    return found if found.tzinfo else found.astimezone()
