"""The options of ``codesign privacy``, ``keys``, ``backup`` and ``restore``."""

from __future__ import annotations

import argparse
from pathlib import Path

from codesign_kernel.cli.actions import add_actions, add_gateway


def add_privacy(parser: argparse.ArgumentParser) -> None:
    """What to do about a person's data, and whose."""
    actions = add_actions(
        parser,
        {
            "table": "print the table of all data that is kept, in Markdown",
            "export": "write all that is kept about a person into a zip",
            "rename": "put a person's name right",
            "erase": "erase a person and all that is theirs, everywhere",
            "retain": "erase what has reached the end of its time; the gateway does it daily",
        },
    )
    for name in ("export", "rename", "erase"):
        actions[name].add_argument("person", metavar="PERSON", help="their name, or their subject")
    actions["export"].add_argument("--out", type=Path, required=True, metavar="FILE.zip", help="where it goes")
    actions["rename"].add_argument("name", metavar="NEW", help="the new name")
    actions["erase"].add_argument("--yes", action="store_true", help="it cannot be taken back")


def add_keys(parser: argparse.ArgumentParser) -> None:
    """What to do with the keys."""
    add_actions(
        parser,
        {
            "show": "name the keys, and how much each has sealed; exit status 1 if one is lost",
            "rotate": "make a new key and seal everything with it; a gateway may run meanwhile",
        },
    )


def add_backup(parser: argparse.ArgumentParser) -> None:
    """The file, and whether the keys go into it."""
    parser.add_argument("file", type=Path, metavar="FILE", help="where it goes")
    parser.add_argument(
        "--with-keys", action="store_true", help="put the keys in: whoever has the file reads everything"
    )
    add_gateway(parser)


def add_restore(parser: argparse.ArgumentParser) -> None:
    """The file, and what is to be different from it."""
    parser.add_argument("file", type=Path, metavar="FILE", help="what `codesign backup` wrote")
    parser.add_argument(
        "--erased", type=Path, metavar="FILE", help="a newer list of the erased: erased.jsonl of the data"
    )
    parser.add_argument("--revoke-tokens", action="store_true", help="no API token of the backup is good any more")
    add_gateway(parser)
