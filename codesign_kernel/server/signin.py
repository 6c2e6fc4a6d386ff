"""Signing in and out: by the token that was printed at start, by name and password, through a hub, or as a guest."""

from __future__ import annotations

import secrets
from typing import cast

from jupyter_server.auth.decorator import allow_unauthenticated

from codesign_kernel.errors import AuditError
from codesign_kernel.server.handler import Refused, local_path
from codesign_kernel.server.identity import GateIdentity
from codesign_kernel.server.rates import address_key
from codesign_kernel.server.visits import PageHandler
from codesign_kernel.store.people import Person


class SignInHandler(PageHandler):
    """What the ways in share."""

    @property
    def identity(self) -> GateIdentity:
        """Whom this server knows."""
        return cast(GateIdentity, self.identity_provider)

    def next_path(self) -> str:
        """Where to go once signed in: a path of ours, whatever was asked for."""
        return local_path(self.get_argument("next", ""), self.base_url)

    async def let_in(self, person: Person, path: str) -> None:
        """Sign ``person`` in and go to ``path``; told to the audit trail first.

        Raises:
            Refused: 503, the trail cannot be written.
        """
        try:
            await self.identity.ask(lambda: self.services.signals.often("sign_in", person.subject, via=person.provider))
        except AuditError as error:
            raise Refused(503, "no_trail", "the server cannot write its audit trail; tell its operator") from error
        await self.identity.sign_in(self, person)
        self.redirect(path, status=303)

    def ask(self, status: int = 200, error: str = "", name: str = "") -> None:
        """The page that asks who it is."""
        settings = self.services.settings
        self.show(
            "login.html", status, identity=settings.identity, guests=settings.guests, next=self.next_path(),
            error=error, name=name[:200],
        )  # fmt: skip


class LoginHandler(SignInHandler):
    """``/login``."""

    @allow_unauthenticated
    async def get(self) -> None:
        """The page; with the local token in the address, straight in, and the address without it."""
        if self.visitor is not None:
            self.redirect(self.next_path())
            return
        token = self.get_query_argument("token", "")
        if token and self.services.settings.identity == "token":
            self.set_header("Referrer-Policy", "no-referrer")
            await self._by_token(token)
            return
        self.ask()

    @allow_unauthenticated
    async def post(self) -> None:
        """What was typed in."""
        kind = self.services.settings.identity
        if kind == "token":
            await self._by_token(self.text("token", 1000).strip())
        elif kind == "password":
            await self._by_password()
        else:
            raise Refused(405, "wrong_method", "this server signs people in through its hub")

    async def _by_token(self, token: str) -> None:
        person = await self._tried(self.identity.by_local_token(self, token))
        if person is None:
            self.ask(403, "This is not the token that was printed when the server started.")
            return
        await self.let_in(person, self.next_path())

    async def _by_password(self) -> None:
        name, password = self.text("name", 1000), self.text("password", 5000)
        person = await self._tried(self.identity.by_password(self, name, password))
        if person is None:
            self.ask(403, "Name or password is wrong.", name)
            return
        await self.let_in(person, self.next_path())

    async def _tried(self, attempt: object) -> Person | None:
        """What the attempt found; too many are refused with the page that says when to come back."""
        person: Person | None = await attempt  # type: ignore[misc]
        if person is None:
            self.services.signals.refused("sign_in")
        return person


class GuestHandler(SignInHandler):
    """``/login/guest``: look around without a name."""

    @allow_unauthenticated
    async def post(self) -> None:
        """A person of no more than this visit."""
        if not self.services.settings.guests:
            raise Refused(404, "not_found", "this server takes no guests")
        self.count("guest", address_key(self.request.remote_ip))
        people = self.services.people
        person = await self.identity.ask(lambda: people.add(f"Guest {secrets.token_hex(4)}", "guest", provider="guest"))
        await self.let_in(person, self.next_path())


class LogoutHandler(SignInHandler):
    """``/logout``: by a form only, so that no other page can sign anybody out."""

    async def post(self) -> None:
        """Sign out; a guest's things go at once."""
        person = self.require_browser()
        services = self.services
        await self.identity.sign_out(self)
        if person.provider == "guest":
            erase = services.privacy.erase if services.privacy is not None else services.people.remove
            await self.identity.ask(lambda: erase(person.subject))
        elif services.jobs is not None:
            await self.identity.ask(lambda: self._left(person))
        await self.identity.ask(lambda: services.signals.often("sign_out", person.subject))
        self._jupyter_current_user = self.current_user = None
        hub = services.settings.hub.get("base_url", "") if person.provider == "jupyterhub" else ""
        self.show("signed_out.html", hub=hub)

    def _left(self, person: Person) -> None:
        """Forget what was not to be kept, where neither another browser nor a program of theirs is still here."""
        people = self.services.people
        here = people.logins(person.subject, "", self.services.settings.session_idle_s)
        if not here and all(token.state(people.now()) != "active" for token in people.tokens(person.subject)):
            self.services.jobs.forget_unkept(person.subject)
