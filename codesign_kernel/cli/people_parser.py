"""The options of ``codesign user`` and ``codesign token``."""

from __future__ import annotations

import argparse
from pathlib import Path

from codesign_kernel.cli.actions import add_actions

ROLES = ("guest", "user", "admin", "none")


def add_user(parser: argparse.ArgumentParser) -> None:
    """What to do with whom."""
    actions = add_actions(
        parser,
        {
            "add": "let a person sign in with a password, which is asked for on the terminal",
            "list": "print everybody who has signed in or may",
            "role": "give a person another role",
            "disable": "keep a person out, at once and until enabled",
            "enable": "let a person in again",
            "password": "give a person a new password, and sign all their browsers out",
        },
    )
    for name, sub in actions.items():
        if name != "list":
            sub.add_argument("name", metavar="NAME", help="of the person")
    actions["add"].add_argument("--role", choices=ROLES, default="user", help="default: user")
    actions["role"].add_argument("role", choices=ROLES, help="from the next request on")
    for name in ("add", "password"):
        # never an argument: everybody on this machine can read those
        actions[name].add_argument(
            "--password-file", type=Path, metavar="FILE", help="its first line, in place of asking on the terminal"
        )


def add_token(parser: argparse.ArgumentParser) -> None:
    """What to do with which."""
    actions = add_actions(
        parser,
        {
            "create": "make an API token for a person; it is printed once and cannot be shown again",
            "list": "print the tokens, of one person or of all",
            "revoke": "take a token back, at once",
        },
    )
    actions["create"].add_argument("name", metavar="NAME", help="of the person")
    actions["create"].add_argument(
        "--capabilities", required=True, metavar="A,B", help="what it may do: profile, explore, generate, cosimulate..."
    )
    actions["create"].add_argument("--days", type=int, default=30, metavar="N", help="1 to 365 (default 30)")
    actions["create"].add_argument("--label", required=True, metavar="TEXT", help="what it is for")
    actions["list"].add_argument("name", nargs="?", metavar="NAME", help="of the person (default: all)")
    actions["revoke"].add_argument("id", metavar="ID", help="as `codesign token list` prints it")
