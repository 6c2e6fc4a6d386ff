"""Passwords: hashed slowly, checked in the same time whoever they are for, hashed anew when the parameters grow."""

from __future__ import annotations

import asyncio
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.store.people import People, Person

#: Characters: fewer are guessed, more only cost time.
LEAST, MOST = 12, 256
#: Hashes at once: each takes 64 MiB and a core.
AT_ONCE = 2


class Passwords:
    """The passwords of :class:`People`.

    Args:
        people: where the hashes are.
        hasher: argon2id; its own defaults (RFC 9106, low memory) without.
    """

    def __init__(self, people: People, hasher: PasswordHasher | None = None) -> None:
        self._people, self._hasher = people, hasher or PasswordHasher()
        self._nobody = self._hasher.hash("the password of nobody")
        #: to be held while a password is checked
        self.places = asyncio.Semaphore(AT_ONCE)

    def hash(self, password: str, name: str = "") -> str:
        """The hash of a new password.

        Raises:
            InvalidInputError: it is too short or too long, or is the person's name.
        """
        return self._hasher.hash(checked_password(password, name))

    def person(self, name: str, password: str) -> Person | None:
        """The person with that name and password, if they may come in. It takes the same time if there is none."""
        found = self._people.password_hash(name)
        person, kept = found if found is not None else (None, None)
        usable = person is not None and not person.disabled and kept is not None
        known = kept if usable and kept is not None else self._nobody
        right = self._verify(known, password)
        if person is None or not usable or not right:
            return None
        if self._hasher.check_needs_rehash(known):
            self._people.renew_password_hash(person.subject, known, self._hasher.hash(_composed(password)))
        return person

    def _verify(self, kept: str, password: str) -> bool:
        try:
            return self._hasher.verify(kept, _composed(password[:MOST]))
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False


def hashed(password: str, name: str = "") -> str:
    """The hash of a new password, with argon2id's own defaults.

    Raises:
        InvalidInputError: as :func:`checked_password`.
    """
    return PasswordHasher().hash(checked_password(password, name))


def _composed(password: str) -> str:
    """The same characters whichever keyboard typed them."""
    return unicodedata.normalize("NFKC", password)


def checked_password(password: str, name: str = "") -> str:
    """The password as it is hashed.

    Raises:
        InvalidInputError: it is too short or too long, or is the person's name.
    """
    if not LEAST <= len(password) <= MOST:
        raise InvalidInputError(f"a password has {LEAST} to {MOST} characters, but this has {len(password)}")
    if len(set(password)) < 5 or (name and password.casefold().strip() == name.casefold().strip()):
        raise InvalidInputError("this password is guessed at once; take some words that do not belong together")
    try:
        _composed(password).encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError("a password is text, but this holds half a character; type it again") from error
    return _composed(password)
