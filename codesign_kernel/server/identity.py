"""Who asks: a session cookie or an API token, checked against the store at every request, in Voila's handlers and ours.

The cookie holds a random secret and nothing else; what it stands for is in the database, so that signing out, a new
password or a disabled account count at once. It is made at sign-in only: what a browser brought before is never used.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from jupyter_server.auth.identity import IdentityProvider, User
from tornado import web
from traitlets import Unicode

from codesign_kernel.errors import InvalidInputError, StoreUnavailableError
from codesign_kernel.server.attempts import Attempts
from codesign_kernel.server.handler import Refused
from codesign_kernel.server.passwords import Passwords
from codesign_kernel.server.settings import Settings
from codesign_kernel.store.people import People, Person, digest_of_secret

#: The one person of ``identity = "token"``.
OWNER = "owner"
#: Seconds that the database has to say who asks: one that is there and silent is as good as away.
PATIENCE_S = 8.0
_AUTHORIZATION = re.compile(r"(?:token|bearer)\s+(\S+)", re.IGNORECASE)

Result = TypeVar("Result")


@dataclass
class GateUser(User):
    """A person, as jupyter_server wants one: its ``username`` is the subject."""

    person: Person | None = None


def person_of(handler: web.RequestHandler) -> Person:
    """Who asks, in any handler of this server.

    Raises:
        Refused: nobody is signed in.
    """
    user = getattr(handler, "_jupyter_current_user", None)
    if user is None:
        raise Refused(401, "not_signed_in", "sign in first")
    return user.person


def local_token(settings: Settings) -> str:
    """The token of ``identity = "token"``, from its file, which is made at the first start and for its owner only.

    Raises:
        InvalidInputError: the file cannot be read or written, or holds too little to be a secret.
    """
    path = settings.token_file or settings.file("token")
    try:
        if not path.exists():
            _write_secret(path, secrets.token_hex(24))
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"the token file {path} cannot be used: {error}") from error
    if len(token) < 24:
        raise InvalidInputError(f"a token has at least 24 characters, but {path} has {len(token)}; remove the file")
    return token


def _write_secret(path: Path, secret: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w") as file:
        file.write(secret + "\n")


def sign_in_path(settings: Settings) -> str:
    """The path that is printed at start for the one person of ``identity = "token"``; of others, the sign-in page."""
    where = f"{settings.base_url}login"
    return f"{where}?token={local_token(settings)}" if settings.identity == "token" else where


class GateIdentity(IdentityProvider):
    """Sessions and API tokens for every handler of the server; Tornado's ``settings["gateway"]`` has the rest."""

    #: jupyter_server's own token, which it takes from URLs and puts into pages: there is none
    token = Unicode("", allow_none=False)

    def __init__(self, **given: Any) -> None:
        given.pop("token", None)
        super().__init__(**given)
        self._attempts: Attempts | None = None
        self._passwords: Passwords | None = None

    def get_handlers(self) -> list[tuple[str, object]]:
        """None: signing in and out is :mod:`~codesign_kernel.server.account`'s."""
        return []

    # who asks

    async def get_user(self, handler: web.RequestHandler) -> GateUser | None:
        """Who asks; ``None`` for nobody.

        Raises:
            Refused: 401 for a token that is not good here, 429 after too many of them, 503 without a database.
        """
        if getattr(handler, "_jupyter_current_user", None) is not None:
            return handler._jupyter_current_user  # type: ignore[attr-defined]
        person = await self.person_now(handler)
        return None if person is None else GateUser(username=person.subject, name=person.name, person=person)

    async def person_now(self, handler: web.RequestHandler) -> Person | None:
        """Who asks, as the store knows it now, also in the middle of a long answer; ``None`` for nobody.

        Raises:
            Refused: as :meth:`get_user`.
        """
        if "Authorization" not in handler.request.headers:
            return await self._by_cookie(handler)
        person = await self._by_token(handler)
        handler._token_authenticated = True  # type: ignore[attr-defined]
        return person

    async def _by_token(self, handler: web.RequestHandler) -> Person:
        people: People = handler.settings["gateway"].people
        given = _AUTHORIZATION.fullmatch(handler.request.headers["Authorization"].strip())
        if not getattr(handler, "accepts_tokens", False):
            raise Refused(401, "no_token_here", "an API token opens the REST API; sign in with a browser for this page")
        with self.attempts(handler).one(handler.request.remote_ip, careful=False) as attempt:
            person = await self.ask(lambda: people.token(given[1])) if given else None
            if given is None or person is None:
                raise Refused(401, "bad_token", "this API token is wrong, expired or revoked; make a new one")
            attempt.right()
        number = given[1].split("_")[1]
        await self.ask(lambda: handler.settings["gateway"].signals.token_used(person.subject, number))
        return person

    async def _by_cookie(self, handler: web.RequestHandler) -> Person | None:
        secret = self.secret_of(handler)
        if not secret:
            return None
        services = handler.settings["gateway"]
        person = await self.ask(lambda: services.people.login(secret, services.settings.session_idle_s))
        if person is None:
            self.clear_login_cookie(handler)
        return person

    async def ask(self, work: Callable[[], Result]) -> Result:
        """What ``work`` finds in the store, in a thread.

        Raises:
            Refused: 503, the database cannot be reached.
        """
        try:
            return await asyncio.wait_for(asyncio.to_thread(work), PATIENCE_S)
        except (StoreUnavailableError, TimeoutError) as error:
            raise Refused(
                503, "store_unavailable", "the server cannot reach its database; try again in a few seconds", 5
            ) from error

    def is_token_authenticated(self, handler: web.RequestHandler) -> bool:
        """Whether the header Authorization said who asks: no other site can make a browser send that."""
        return bool(getattr(handler, "_token_authenticated", False))

    # the cookie

    def get_cookie_name(self, handler: web.RequestHandler) -> str:
        """Bound to this host where browsers can do that; else of this port, for those on one machine."""
        base_url = handler.settings["gateway"].settings.base_url
        if self.behind_tls(handler):
            return "__Host-codesign" if base_url == "/" else "__Secure-codesign"
        return f"codesign-{urlsplit(f'//{handler.request.host}').netloc.rpartition(':')[2]}".replace("]", "")

    def behind_tls(self, handler: web.RequestHandler) -> bool:
        """Whether the browser speaks https to us, or to the proxy before us."""
        public = handler.settings["gateway"].settings.public_url
        return handler.request.protocol == "https" or public.startswith("https:")

    def secret_of(self, handler: web.RequestHandler) -> str:
        """The secret in the request's cookie; "" without."""
        secret = handler.get_cookie(self.get_cookie_name(handler)) or ""
        return secret if re.fullmatch(r"[A-Za-z0-9_-]{43}", secret) else ""

    async def sign_in(self, handler: web.RequestHandler, person: Person) -> None:
        """A new session in a new cookie; the one that the browser had before ends.

        Raises:
            InvalidInputError: they may not come in.
        """
        services = handler.settings["gateway"]
        before = self.secret_of(handler)
        secret = await self.ask(lambda: services.people.start_login(person.subject, services.settings.session_s))
        if before:
            await self.ask(lambda: services.people.end_login(before))
        handler.set_cookie(
            self.get_cookie_name(handler),
            secret,
            path=services.settings.base_url,
            httponly=True,
            secure=self.behind_tls(handler),
            samesite="Lax",
        )

    async def sign_out(self, handler: web.RequestHandler) -> None:
        """The session ends, here and in the database."""
        people = handler.settings["gateway"].people
        if secret := self.secret_of(handler):
            await self.ask(lambda: people.end_login(secret))
        self.clear_login_cookie(handler)

    def clear_login_cookie(self, handler: web.RequestHandler) -> None:
        """Take the cookie from the browser."""
        path = handler.settings["gateway"].settings.base_url
        secure = self.behind_tls(handler)
        handler.clear_cookie(self.get_cookie_name(handler), path=path, httponly=True, secure=secure, samesite="Lax")

    # how somebody signs in

    def attempts(self, handler: web.RequestHandler) -> Attempts:
        """The count of wrong secrets."""
        if self._attempts is None:
            self._attempts = Attempts(handler.settings["gateway"].rates)
        return self._attempts

    def passwords(self, handler: web.RequestHandler) -> Passwords:
        """The passwords of this gateway's people."""
        if self._passwords is None:
            self._passwords = Passwords(handler.settings["gateway"].people)
        return self._passwords

    async def by_password(self, handler: web.RequestHandler, name: str, password: str) -> Person | None:
        """Who has that name and password; ``None`` for nobody, and it does not tell which of the two is wrong.

        Raises:
            Refused: 429 after too many attempts.
        """
        passwords = self.passwords(handler)
        # counted by what would be found, whichever way it is written; by digest, as it may be anything
        counted = digest_of_secret(name.strip().casefold())[:32]
        # who waits for a place is not counted yet: a class that signs in at once is no attack
        async with passwords.places:
            with self.attempts(handler).one(handler.request.remote_ip, counted) as attempt:
                person = await self.ask(lambda: passwords.person(name, password))
                if person is not None:
                    attempt.right()
        return person

    async def by_local_token(self, handler: web.RequestHandler, token: str) -> Person | None:
        """The owner, if ``token`` is the one that was printed at start.

        Raises:
            Refused: 429 after too many attempts.
        """
        services = handler.settings["gateway"]
        with self.attempts(handler).one(handler.request.remote_ip) as attempt:
            right = local_token(services.settings)
            if not secrets.compare_digest(digest_of_secret(token), digest_of_secret(right)):
                return None
            attempt.right()
        return await self.ask(lambda: owner(services.people))


def owner(people: People) -> Person:
    """The one person of ``identity = "token"``, made if they are not there."""
    return known(people, OWNER, "admin", "local")


def known(people: People, name: str, role: str, provider: str) -> Person:
    """The person whom ``provider`` calls ``name``, with the role that it gives them now; made if they are not there.

    Raises:
        InvalidInputError: another provider has a person of that name: their things are not this one's.
    """
    found = people.by_name(name)
    if found is None:
        return people.add(name, role, provider=provider)
    if found.provider != provider:
        raise InvalidInputError(
            f"the name {found.name!r:.60} is that of somebody who signs in by {found.provider}; an administrator can "
            "remove that person"
        )
    if found.role != role:
        people.set_role(found.subject, role)
    return people.by_subject(found.subject) or found
