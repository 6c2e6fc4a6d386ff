"""Digests: SHA-256 in hexadecimal, of bytes and of plain data; and the checks of what becomes a key."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from codesign_kernel.errors import InvalidInputError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_OWNER = re.compile(r"[0-9a-zA-Z]{1,32}")
#: Letters of a name at most: what a database's index takes everywhere.
NAME_LENGTH = 200


def sha256(content: bytes) -> str:
    """The digest of ``content``."""
    return hashlib.sha256(content).hexdigest()


def plain_text(data: object) -> str:
    """``data`` as JSON, the same text for the same data: keys sorted, no spaces, floats in full.

    Raises:
        InvalidInputError: it holds something other than None, bool, int, float (finite), str, list, tuple or dict.
    """
    try:
        _check_keys(data)
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"the store keeps plain data (finite numbers, text, lists, dicts with text as keys), but {error}; "
            "convert arrays with .tolist(), and leave out or name what is not finite"
        ) from error


def _check_keys(data: object) -> None:
    """JSON would make a text of a number that is a key, and another thing come back than was kept."""
    if isinstance(data, dict):
        for key in data:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r:.40} of a dict is no text")
    if isinstance(data, (dict, list, tuple)):
        for part in data.values() if isinstance(data, dict) else data:
            _check_keys(part)


def digest_of(data: object) -> str:
    """The digest of plain ``data``: the key of what was computed from it.

    Raises:
        InvalidInputError: it is not plain data.
    """
    return sha256(plain_text(data).encode())


def checked_digest(digest: Any, what: str) -> str:
    """``digest`` itself.

    Raises:
        InvalidInputError: it is not 64 hexadecimal digits.
    """
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise InvalidInputError(
            f"{what} is a SHA-256 of 64 digits 0-9a-f, but got {digest!r:.80}; "
            "codesign_kernel.store.digest_of makes one"
        )
    return digest


def checked_name(name: Any, what: str) -> str:
    """``name`` itself.

    Raises:
        InvalidInputError: it is not 1 to 200 printable characters.
    """
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH or not name.isprintable():
        raise InvalidInputError(
            f"{what} is 1 to {NAME_LENGTH} printable characters, but got {name!r:.80}; choose another"
        )
    return name


def checked_owner(owner: Any) -> str:
    """``owner`` itself.

    Raises:
        InvalidInputError: it is not 1 to 32 letters and digits, as a person's subject is.
    """
    if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
        raise InvalidInputError(
            f"an owner is a person's subject, 1 to 32 letters and digits, but got {owner!r:.80}; "
            "look the person up first"
        )
    return owner
