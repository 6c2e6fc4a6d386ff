"""What a person, a login and a token are, and which texts can be names: no SQL, and no secret."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.scopes import CAPABILITIES, ROLE_CAPABILITIES, ROLES

#: Of somebody who was let in by the identity provider, and may open nothing.
NO_ROLE = ""
NAME_MOST, LABEL_MOST = 200, 100
#: Controls, halves of pairs, unassigned, line and paragraph separators, and formats that turn text round; the joiners
#: of some scripts stay.
_REFUSED = {"Cc", "Cs", "Cn", "Co", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"}


@dataclass(frozen=True)
class Person:
    """Somebody, as far as the gateway knows.

    Attributes:
        subject: a random name that says nothing; everything of theirs is filed under it.
        name: what they call themselves; any text, shown escaped.
        role: of ``scopes.ROLES``, or ``NO_ROLE``.
        provider: who vouches for them: local, password, jupyterhub or guest.
        disabled: may not come in.
        capabilities: ``None`` means all of the role's; an API token has fewer.
        via: how this request came: login, token, hub or guest.
    """

    subject: str
    name: str
    role: str
    provider: str = ""
    disabled: bool = False
    capabilities: frozenset[str] | None = None
    via: str = "login"

    @property
    def allowed(self) -> frozenset[str]:
        """The capabilities of this request: the role's, cut to the token's."""
        of_role = ROLE_CAPABILITIES.get(self.role, frozenset())
        return of_role if self.capabilities is None else of_role & self.capabilities

    def may(self, capability: str) -> bool:
        """Whether this request has the capability."""
        return capability in self.allowed

    def has_role(self, role: str) -> bool:
        """Whether the person's role is ``role`` or one above it."""
        return self.role in ROLES and ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True)
class Login:
    """A browser that is signed in; ``id`` is the beginning of its digest, and no secret."""

    id: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    current: bool = False


@dataclass(frozen=True)
class Token:
    """An API token, without its secret."""

    id: str
    owner: str
    label: str
    capabilities: frozenset[str]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    used_at: datetime | None

    def state(self, now: datetime) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if now < self.expires_at else "expired"


def checked_text(what: str, text: object, most: int = NAME_MOST) -> str:
    """``text`` in Unicode's composed form, without blanks at its ends.

    Raises:
        InvalidInputError: it is none, is empty or too long, or holds characters that are not for reading.
    """
    if not isinstance(text, str):
        raise InvalidInputError(f"{what} is text, but got {type(text).__name__}")
    text = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(text) <= most:
        raise InvalidInputError(f"{what} has 1 to {most} characters, but got {len(text)}")
    for letter in text:
        kind = unicodedata.category(letter)
        if kind in _REFUSED or (kind == "Cf" and letter not in _JOINERS):
            raise InvalidInputError(f"{what} has no control characters, but got U+{ord(letter):04X}; leave it out")
    return text


def checked_role(role: str) -> str:
    """``role`` if there is such a one.

    Raises:
        InvalidInputError: there is not.
    """
    if role not in (*ROLES, NO_ROLE):
        raise InvalidInputError(f"a role is one of {', '.join(ROLES)} or empty, but got {role!r:.40}")
    return role


def checked_capabilities(person: Person, capabilities: Iterable[str]) -> frozenset[str]:
    """The capabilities of a new token of ``person``.

    Raises:
        InvalidInputError: there are none, or one is unknown or not the person's.
    """
    wanted = frozenset(capabilities)
    if unknown := sorted(wanted - set(CAPABILITIES)):
        raise InvalidInputError(f"a capability is one of {', '.join(CAPABILITIES)}, but got {unknown[0]!r:.40}")
    if not wanted:
        raise InvalidInputError("a token has at least one capability; name what it is for")
    if above := sorted(wanted - person.allowed):
        raise InvalidInputError(
            f"a token has no more capabilities than its person, whose role {person.role or 'none'!r} has not "
            f"{', '.join(above)}; leave it out, or ask an administrator"
        )
    return wanted
