"""Who may come in: persons, the browsers that they are signed in with, and their API tokens. All SQL for these is here.

Of a secret only its SHA-256 is kept. The secrets are random and long, so a fast digest is enough; passwords come here
hashed already, by the slow hash of the server.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.store.persons import (
    LABEL_MOST,
    NO_ROLE,
    Login,
    Person,
    Token,
    checked_capabilities,
    checked_role,
    checked_text,
)
from codesign_kernel.store.schema import LoginRow, PersonRow, TokenRow
from codesign_kernel.store.store import Store

__all__ = ["NO_ROLE", "Login", "People", "Person", "Token", "digest_of_secret"]

#: Days that a token may be good for, and how many tokens and logins one person may have.
TOKEN_DAYS, TOKENS_MOST, LOGINS_MOST = 365, 50, 50
#: A use is noted at most that often: a read should not become a write.
NOTE = timedelta(minutes=1)

_TOKEN = re.compile(r"cpg_([0-9a-f]{16})_([0-9a-f]{48})")


def digest_of_secret(secret: str) -> str:
    """The SHA-256 by which a secret is found again."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class People:
    """Persons, logins and tokens of one store. Threads may share it.

    Args:
        store: where they are kept.
        now: the clock, in UTC.

    Attributes:
        watchers: called when less may be open to somebody than before, in the thread that did it.
        changes: how often that was.
    """

    def __init__(self, store: Store, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database, self.now = store._database, now
        self.watchers: list[Callable[[], None]] = []
        self.changes = 0

    # persons

    def add(self, name: str, role: str, *, provider: str = "password", password_hash: str | None = None) -> Person:
        """A new person.

        Raises:
            InvalidInputError: the name or the role is none, or somebody has the name.
        """
        name, role = checked_text("a person's name", name), checked_role(role)
        row = {
            "subject": secrets.token_hex(16), "name": name, "role": role, "password": password_hash,
            "provider": provider, "disabled": False, "created_at": self.now(), "seen_at": None,
        }  # fmt: skip
        with self._database.write() as connection:
            if not self._database.insert_new(connection, PersonRow, [row]):
                raise InvalidInputError(f"there is a person called {name!r:.60} already; choose another name")
        return Person(str(row["subject"]), name, role, provider)

    def by_name(self, name: str) -> Person | None:
        """The person of that name."""
        return self._person(PersonRow.name == wanted) if (wanted := _possible(name)) else None

    def by_subject(self, subject: str) -> Person | None:
        """The person of that subject."""
        return self._person(PersonRow.subject == subject) if re.fullmatch("[0-9a-f]{32}", subject) else None

    def everyone(self) -> list[Person]:
        """All of them, by name."""
        with self._database.read() as connection:
            return [_person_of(row) for row in connection.execute(_PERSONS.order_by(PersonRow.name))]

    def set_role(self, subject: str, role: str) -> None:
        """Give a person another role; it holds from the next request on.

        Raises:
            InvalidInputError: the role is none, or there is no such person.
        """
        self._change(subject, {"role": checked_role(role)})
        self._tell()

    def disable(self, subject: str, disabled: bool = True) -> None:
        """Keep a person out, signed in or not, or let them in again.

        Raises:
            InvalidInputError: there is no such person.
        """
        with self._database.write() as connection:
            _update(connection, subject, {"disabled": disabled})
            if disabled:
                connection.execute(delete(LoginRow).where(LoginRow.owner == subject))
        self._tell()

    def remove(self, subject: str) -> bool:
        """Forget a person with logins, tokens, consents and jobs; whether there was one."""
        with self._database.write() as connection:
            gone = bool(connection.execute(delete(PersonRow).where(PersonRow.subject == subject)).rowcount)
        self._tell()
        return gone

    def password_hash(self, name: str) -> tuple[Person, str | None] | None:
        """(the person of that name, the hash of their password)."""
        if not (wanted := _possible(name)):
            return None
        with self._database.read() as connection:
            row = connection.execute(_PERSONS.add_columns(PersonRow.password).where(PersonRow.name == wanted)).first()
        return None if row is None else (_person_of(row), row.password)

    def set_password_hash(self, subject: str, password_hash: str, *, keep: str | None = None) -> None:
        """A new password: every login ends, but for the one with the secret ``keep``.

        Raises:
            InvalidInputError: there is no such person.
        """
        with self._database.write() as connection:
            _update(connection, subject, {"password": password_hash})
            _end_others(connection, subject, keep)
        self._tell()

    def renew_password_hash(self, subject: str, old: str, new: str) -> None:
        """The same password with newer parameters: no login ends, and nothing happens if it was changed meanwhile."""
        with self._database.write() as connection:
            same = (PersonRow.subject == subject, PersonRow.password == old)
            connection.execute(update(PersonRow).where(*same).values(password=new))

    def guests_gone(self, idle_s: float) -> list[str]:
        """Subjects of guests without a login that still holds: their things can go."""
        now = self.now()
        living = select(LoginRow.owner).where(
            LoginRow.expires_at > now, LoginRow.seen_at > now - timedelta(seconds=idle_s)
        )
        # a guest has a login from the first moment on, but for the blink between two transactions
        old = PersonRow.created_at < now - NOTE
        wanted = select(PersonRow.subject).where(PersonRow.provider == "guest", old, PersonRow.subject.not_in(living))
        with self._database.read() as connection:
            return list(connection.scalars(wanted))

    # logins

    def start_login(self, subject: str, lasts_s: float) -> str:
        """Sign a person in; the secret for the cookie.

        Raises:
            InvalidInputError: there is no such person, or they may not come in.
        """
        secret, now = secrets.token_urlsafe(32), self.now()
        row = {
            "digest": digest_of_secret(secret), "owner": subject, "created_at": now, "seen_at": now,
            "expires_at": now + timedelta(seconds=lasts_s),
        }  # fmt: skip
        with self._database.write() as connection:
            connection.execute(delete(LoginRow).where(LoginRow.expires_at <= now))
            found = connection.execute(select(PersonRow.disabled).where(PersonRow.subject == subject)).scalar()
            if found is not False:
                raise InvalidInputError("only a person who is known and not disabled can sign in")
            kept = select(LoginRow.digest).where(LoginRow.owner == subject).order_by(LoginRow.seen_at.desc())
            for digest in list(connection.scalars(kept))[LOGINS_MOST - 1 :]:
                connection.execute(delete(LoginRow).where(LoginRow.digest == digest))
            connection.execute(insert(LoginRow).values(row))
            connection.execute(update(PersonRow).where(PersonRow.subject == subject).values(seen_at=now))
        return secret

    def login(self, secret: str, idle_s: float, *, note: bool = True) -> Person | None:
        """Who has the cookie with ``secret``, if the login holds: neither too old nor unused for ``idle_s``.

        ``note``: this is a use of it.
        """
        digest, now = digest_of_secret(secret), self.now()
        wanted = (
            _PERSONS.add_columns(LoginRow.seen_at)
            .join(LoginRow, LoginRow.owner == PersonRow.subject)
            .where(LoginRow.digest == digest, LoginRow.expires_at > now, PersonRow.disabled.is_(False))
            .where(LoginRow.seen_at > now - timedelta(seconds=idle_s))
        )
        with self._database.read() as connection:
            row = connection.execute(wanted).first()
        if row is None:
            return None
        if note and now - row.seen_at > NOTE:
            with self._database.write() as connection:
                connection.execute(update(LoginRow).where(LoginRow.digest == digest).values(seen_at=now))
                connection.execute(update(PersonRow).where(PersonRow.subject == row.subject).values(seen_at=now))
        via = {"guest": "guest", "jupyterhub": "hub"}.get(row.provider, "login")
        return replace(_person_of(row), via=via)

    def logins(self, subject: str, secret: str = "", idle_s: float = float("inf")) -> list[Login]:
        """The logins of a person that hold, the last used first; that of ``secret`` is ``current``."""
        now, own = self.now(), digest_of_secret(secret)
        wanted = select(LoginRow).where(LoginRow.owner == subject, LoginRow.expires_at > now)
        if idle_s != float("inf"):
            wanted = wanted.where(LoginRow.seen_at > now - timedelta(seconds=idle_s))
        columns = (LoginRow.digest, LoginRow.created_at, LoginRow.seen_at, LoginRow.expires_at)
        with self._database.read() as connection:
            rows = connection.execute(wanted.with_only_columns(*columns).order_by(LoginRow.seen_at.desc())).all()
        return [Login(row[0][:16], row[1], row[2], row[3], hmac.compare_digest(row[0], own)) for row in rows]

    def end_login(self, secret: str) -> None:
        """Sign that browser out."""
        with self._database.write() as connection:
            connection.execute(delete(LoginRow).where(LoginRow.digest == digest_of_secret(secret)))
        self._tell()

    def end_login_of(self, subject: str, login: str) -> bool:
        """Sign the person's browser with that ``Login.id`` out; whether there was one."""
        if not re.fullmatch("[0-9a-f]{16}", login):
            return False
        mine = (LoginRow.owner == subject, LoginRow.digest.startswith(login))
        with self._database.write() as connection:
            ended = bool(connection.execute(delete(LoginRow).where(*mine)).rowcount)
        self._tell()
        return ended

    def end_logins(self, subject: str, *, keep: str | None = None) -> None:
        """Sign a person out everywhere, but for the browser with the secret ``keep``."""
        with self._database.write() as connection:
            _end_others(connection, subject, keep)
        self._tell()

    # tokens

    def create_token(self, person: Person, label: str, capabilities: Iterable[str], days: float) -> tuple[Token, str]:
        """(a new token, its text: shown once and never kept).

        Raises:
            InvalidInputError: the label is none, a capability is unknown or not the person's, it would last for
                more than ``TOKEN_DAYS``, or they have ``TOKENS_MOST`` that are good.
        """
        wanted = checked_capabilities(person, capabilities)
        if not 0 < days <= TOKEN_DAYS:
            raise InvalidInputError(f"a token is good for more than 0 and at most {TOKEN_DAYS} days, but got {days:g}")
        number, now = secrets.token_hex(8), self.now()
        text = f"cpg_{number}_{secrets.token_hex(24)}"
        made = Token(
            number, person.subject, checked_text("a token's label", label, LABEL_MOST), wanted, now,
            now + timedelta(days=days), None, None,
        )  # fmt: skip
        with self._database.write() as connection:
            good = (TokenRow.owner == person.subject, TokenRow.expires_at > now, TokenRow.revoked_at.is_(None))
            if connection.execute(select(func.count()).select_from(TokenRow).where(*good)).scalar_one() >= TOKENS_MOST:
                raise InvalidInputError(f"a person has at most {TOKENS_MOST} tokens; revoke one that is not used")
            row = {**vars(made), "capabilities": sorted(wanted), "digest": digest_of_secret(text)}
            try:
                connection.execute(insert(TokenRow).values(row))
            except IntegrityError as error:
                raise InvalidInputError("only a person who is known can have a token") from error
        return made, text

    def token(self, text: str) -> Person | None:
        """Whose token ``text`` is, with its capabilities, if it is good."""
        given = _TOKEN.fullmatch(text)
        digest, now = digest_of_secret(text), self.now()
        wanted = (
            _PERSONS.add_columns(TokenRow.digest, TokenRow.capabilities, TokenRow.used_at)
            .join(TokenRow, TokenRow.owner == PersonRow.subject)
            .where(TokenRow.id == (given[1] if given else ""), TokenRow.expires_at > now, TokenRow.revoked_at.is_(None))
            .where(PersonRow.disabled.is_(False))
        )
        with self._database.read() as connection:
            row = connection.execute(wanted).first()
        # compared also where there is none, so that the time does not tell which ids there are
        same = hmac.compare_digest(row.digest if row else "0" * 64, digest)
        if given is None or row is None or not same:
            return None
        if row.used_at is None or now - row.used_at > NOTE:
            with self._database.write() as connection:
                connection.execute(update(TokenRow).where(TokenRow.id == given[1]).values(used_at=now))
        return replace(_person_of(row), capabilities=frozenset(row.capabilities), via="token")

    def tokens(self, subject: str | None = None) -> list[Token]:
        """The tokens of a person, or of all, the newest first."""
        names = ("id", "owner", "label", "capabilities", "created_at", "expires_at", "revoked_at", "used_at")
        wanted = select(*(getattr(TokenRow, name) for name in names)).order_by(TokenRow.created_at.desc(), TokenRow.id)
        with self._database.read() as connection:
            rows = connection.execute(wanted if subject is None else wanted.where(TokenRow.owner == subject)).all()
        return [Token(**{**row._mapping, "capabilities": frozenset(row.capabilities)}) for row in rows]

    def revoke_token(self, number: str, subject: str | None = None) -> bool:
        """Revoke a token by its id, of ``subject`` if given; whether there was one that was good."""
        if not re.fullmatch("[0-9a-f]{16}", number):
            return False
        mine = [TokenRow.id == number, TokenRow.revoked_at.is_(None)]
        if subject is not None:
            mine.append(TokenRow.owner == subject)
        with self._database.write() as connection:
            done = connection.execute(update(TokenRow).where(*mine).values(revoked_at=self.now()))
        self._tell()
        return bool(done.rowcount)

    # what operators see

    def counts(self, active_s: float) -> dict[str, int]:
        """{"people": how many there are, "active": seen within that time, "sessions": sign-ins that have not ended}."""
        now = self.now()
        wanted = {
            "people": select(func.count()).select_from(PersonRow),
            "active": select(func.count(func.distinct(LoginRow.owner))).where(
                LoginRow.seen_at > now - timedelta(seconds=active_s)
            ),
            "sessions": select(func.count()).select_from(LoginRow).where(LoginRow.expires_at > now),
        }
        with self._database.read() as connection:
            return {name: int(connection.execute(count).scalar_one()) for name, count in wanted.items()}

    def _tell(self) -> None:
        self.changes += 1
        for watcher in self.watchers:
            watcher()

    def _person(self, *where: Any) -> Person | None:
        with self._database.read() as connection:
            row = connection.execute(_PERSONS.where(*where)).first()
        return None if row is None else _person_of(row)

    def _change(self, subject: str, values: dict[str, Any]) -> None:
        with self._database.write() as connection:
            _update(connection, subject, values)


_PERSONS = select(PersonRow.subject, PersonRow.name, PersonRow.role, PersonRow.provider, PersonRow.disabled)


def _person_of(row: Any) -> Person:
    return Person(row.subject, row.name, row.role, row.provider, bool(row.disabled))


def _possible(name: str) -> str | None:
    """The name as it would be kept; ``None`` if nobody can have it."""
    try:
        return checked_text("a person's name", name)
    except InvalidInputError:
        return None


def _update(connection: Connection, subject: str, values: dict[str, Any]) -> None:
    if not connection.execute(update(PersonRow).where(PersonRow.subject == subject).values(values)).rowcount:
        raise InvalidInputError("there is no such person; see `codesign user list`")


def _end_others(connection: Connection, subject: str, keep: str | None) -> None:
    ended = delete(LoginRow).where(LoginRow.owner == subject)
    connection.execute(ended if keep is None else ended.where(LoginRow.digest != digest_of_secret(keep)))
