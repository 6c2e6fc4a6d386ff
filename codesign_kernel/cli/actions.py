"""What commands about a gateway share: their actions, and whose data it is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path


def add_gateway(parser: argparse.ArgumentParser) -> None:
    """Whose data it is."""
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="the gateway's settings (default: none)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where it keeps everything (default: the user's own)")


def add_actions(parser: argparse.ArgumentParser, actions: Mapping[str, str]) -> dict[str, argparse.ArgumentParser]:
    """The parser of each action, by its name; ``actions`` is {name: what it does}."""
    added = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    found = {}
    for name, what in actions.items():
        sub = added.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".", allow_abbrev=False)
        # given behind the action too; without a default, so that it does not undo one given before it
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the result as JSON")
        add_gateway(sub)
        found[name] = sub
    return found
