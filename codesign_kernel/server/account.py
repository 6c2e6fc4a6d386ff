"""One's own page: sessions, API tokens, password, consent, the copy of one's data, and the end of it all.

Every change is a plain form with its XSRF token; what went wrong stands beside the form that it was sent with.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from jupyter_server.auth.decorator import allow_unauthenticated

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.scopes import CAPABILITIES
from codesign_kernel.server.gallery import GalleryHandler
from codesign_kernel.server.handler import Refused
from codesign_kernel.server.signin import GuestHandler, LoginHandler, LogoutHandler, SignInHandler
from codesign_kernel.server.visits import AssetHandler, PageHandler
from codesign_kernel.store.belongings import Belonging
from codesign_kernel.store.consent import NO_SALE, PURPOSES
from codesign_kernel.store.people import TOKEN_DAYS, Token

#: Files that the page lists, the newest first.
FILES = 50
#: {what was done: how it is told afterwards}.
DONE = {
    "token-revoked": "The token is revoked; programs that use it are refused from now on.",
    "session-ended": "That browser is signed out.",
    "sessions-ended": "All other browsers are signed out.",
    "password": "The password is changed, and all other browsers are signed out.",
    "consent": "Your answer is saved.",
    "file-deleted": "The file is deleted.",
}


class AccountPage(SignInHandler):
    """The page, and what its forms share."""

    async def prepare(self, *, _redirect_to_login: bool = True) -> None:
        """For somebody who is here with a browser."""
        await super().prepare(_redirect_to_login=_redirect_to_login)
        if self._finished:
            return
        self.require_browser()
        if self.request.method == "POST":
            self.count("change", self.person.subject)

    async def shown(self, status: int = 200, wrong: tuple[str, str] = ("", ""), made: Any = None, **typed: Any) -> None:
        """Answer with the page.

        Args:
            status: of HTTP.
            wrong: (the form, what is wrong with what it brought).
            made: (a new token, its text): shown this once.
            typed: what was typed into that form.
        """
        services, person, secret = self.services, self.person, self.identity.secret_of(self)
        people, idle_s = services.people, services.settings.session_idle_s

        def read() -> tuple[Any, list[Token], dict[str, bool], list[Belonging]]:
            consents, files = {}, []
            if services.privacy is not None:
                consents = {name: services.privacy.consent(person.subject, name) for name in PURPOSES}
            if services.jobs is not None:
                files = services.jobs.belongings.page(person.subject, FILES)
            return people.logins(person.subject, secret, idle_s), people.tokens(person.subject), consents, files

        logins, tokens, consents, files = await self.identity.ask(read)
        self.show(
            "account.html", status, person=person, logins=logins, now=people.now(), when=when,
            tokens=[one for one in tokens if one.state(people.now()) == "active"],
            capabilities={name: CAPABILITIES[name] for name in CAPABILITIES if person.may(name)},
            may_token=person.provider != "guest", purposes=PURPOSES, consents=consents, days_most=TOKEN_DAYS,
            password=person.provider == "password", private=services.privacy is not None,
            wrong=wrong, made=made, typed=typed, files=files, files_most=FILES, size=size_words,
            done=DONE.get(self.get_query_argument("done", ""), ""),
        )  # fmt: skip

    async def change(self, work: Callable[[], Any]) -> Any:
        """Do it in a thread, against the store."""
        return await self.identity.ask(work)

    def back(self, done: str) -> None:
        """To the page again, which says what was done."""
        self.redirect(f"{self.base_url}account?done={done}", status=303)


class AccountHandler(AccountPage):
    """``/account``."""

    async def get(self) -> None:
        """The page."""
        await self.shown()


class TokensHandler(AccountPage):
    """``/account/tokens``: a new one."""

    async def post(self) -> None:
        """Make it, and show it this once."""
        person, label, days = self.person, self.text("label"), self.text("days", 10)
        if person.provider == "guest":
            raise Refused(403, "role_needed", "a guest has no API tokens; sign in with a name")
        wanted = [name[:40] for name in self.get_body_arguments("capability")]
        try:
            number = int(days) if days.strip().isdecimal() else 0
            made = await self.change(lambda: self.services.people.create_token(person, label, wanted, number))
        except InvalidInputError as error:
            await self.shown(400, ("token", str(error)), label=label[:100], wanted=wanted, days=days)
            return
        token = made[0]
        self.services.signals.note(
            "token_created", person.subject, id=token.id, capabilities=sorted(token.capabilities), days=number
        )
        await self.shown(made=made)


class RevokeHandler(AccountPage):
    """``/account/tokens/ID/revoke``."""

    async def post(self, number: str) -> None:
        """Revoke one of one's own."""
        person = self.person
        if not await self.change(lambda: self.services.people.revoke_token(number, person.subject)):
            raise Refused(404, "not_found", "there is no such token of yours, or it is revoked already")
        self.services.signals.note("token_revoked", person.subject, id=number)
        self.back("token-revoked")


class EndSessionHandler(AccountPage):
    """``/account/sessions/ID/end``, or ``others``: sign other browsers out."""

    async def post(self, which: str) -> None:
        """End them."""
        person, people, secret = self.person, self.services.people, self.identity.secret_of(self)
        if which == "others":
            await self.change(lambda: people.end_logins(person.subject, keep=secret))
            self.back("sessions-ended")
            return
        if not await self.change(lambda: people.end_login_of(person.subject, which)):
            raise Refused(404, "not_found", "there is no such session of yours, or it has ended")
        self.back("session-ended")


class PasswordHandler(AccountPage):
    """``/account/password``."""

    async def post(self) -> None:
        """Change it; who knows the old one only."""
        person, new = self.person, self.text("new", 5000)
        if person.provider != "password":
            raise Refused(403, "forbidden", "your password is kept by who signs you in, not here")
        passwords, secret = self.identity.passwords(self), self.identity.secret_of(self)
        if await self.identity.by_password(self, person.name, self.text("old", 5000)) is None:
            self.services.signals.refused("sign_in", person.subject)
            await self.shown(403, ("password", "The present password is wrong."))
            return
        try:
            async with passwords.places:
                kept = await asyncio.to_thread(passwords.hash, new, person.name)
        except InvalidInputError as error:
            await self.shown(400, ("password", str(error)))
            return
        await self.change(lambda: self.services.people.set_password_hash(person.subject, kept, keep=secret))
        self.services.signals.note("person_changed", person.subject, what="password")
        self.back("password")


class ConsentHandler(AccountPage):
    """``/account/consent``."""

    async def post(self) -> None:
        """Agree, or take it back."""
        person, purpose, answer = self.person, self.text("purpose", 40), self.text("answer", 4)
        if purpose not in PURPOSES or answer not in ("yes", "no") or self.services.privacy is None:
            raise Refused(400, "invalid", "say yes or no to a purpose of this page")
        await self.change(lambda: self.services.privacy.set_consent(person.subject, purpose, answer == "yes"))
        self.back("consent")


class DeleteFileHandler(AccountPage):
    """``/account/files/ID/delete``."""

    async def post(self, number: str) -> None:
        """Delete one of one's own."""
        person, jobs = self.person, self.services.jobs
        if jobs is None or not await self.change(lambda: jobs.belongings.forget(person.subject, number)):
            raise Refused(404, "not_found", "there is no such file of yours, or it is deleted already")
        self.back("file-deleted")


class ExportHandler(AccountPage):
    """``/account/export``: all that is kept about one, as a zip."""

    async def post(self) -> None:
        """Send it."""
        person = self.person
        if self.services.privacy is None:
            raise Refused(404, "not_found", "this server keeps no data to export")
        self.count("export", person.subject)
        content = await self.change(lambda: self.services.privacy.export(person.subject))
        self.set_header("Content-Type", "application/zip")
        self.set_header("Content-Disposition", 'attachment; filename="my-data.zip"')
        self.finish(content)


class EraseHandler(AccountPage):
    """``/account/erase``."""

    async def post(self) -> None:
        """Erase the person who types their own name, and everything of theirs."""
        person, typed = self.person, self.text("name", 1000)
        if self.services.privacy is None:
            raise Refused(404, "not_found", "ask the operator: this server cannot erase by itself")
        if not secrets.compare_digest(typed.strip().encode(), person.name.encode()):
            await self.shown(400, ("erase", "This is not your name as it stands above; nothing was erased."))
            return
        self.count("export", person.subject)
        await self.change(lambda: self.services.privacy.erase(person.subject))
        self.identity.clear_login_cookie(self)
        self._jupyter_current_user = self.current_user = None
        self.show("erased.html")


class PrivacyHandler(PageHandler):
    """``/privacy``: what is kept, open to all."""

    @allow_unauthenticated
    def get(self) -> None:
        """The table of data kept."""
        try:
            from codesign_kernel.store.kept import DATA, days_text
        except ImportError:
            raise Refused(404, "not_found", "ask the operator of this server what it keeps") from None
        days = getattr(self.services.privacy, "days", {})
        rows = [(kind, days_text(days.get(name, kind.days))) for name, kind in DATA.items()]
        self.show("privacy.html", rows=rows, no_sale=NO_SALE)


def size_words(size: int) -> str:
    """Bytes for people."""
    return f"{size:,} bytes" if size < 1000 else f"{size / 1e3:,.0f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"


def when(time: datetime) -> str:
    """A time for people: its day and minute in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def handlers(services: Any) -> list[tuple[Any, ...]]:
    """The routes of this module, of signing in and of the gallery, below ``base_url``."""
    found: list[tuple[Any, ...]] = [
        (r"", GalleryHandler),
        (r"login", LoginHandler),
        (r"login/guest", GuestHandler),
        (r"logout", LogoutHandler),
        (r"account", AccountHandler),
        (r"account/tokens", TokensHandler),
        (r"account/tokens/([0-9a-f]{16})/revoke", RevokeHandler),
        (r"account/sessions/([0-9a-f]{16}|others)/end", EndSessionHandler),
        (r"account/password", PasswordHandler),
        (r"account/consent", ConsentHandler),
        (r"account/files/([0-9a-f]{32})/delete", DeleteFileHandler),
        (r"account/export", ExportHandler),
        (r"account/erase", EraseHandler),
        (r"privacy", PrivacyHandler),
        (r"gate/(gate\.css|gate\.js|app\.svg)", AssetHandler),
    ]
    if services.settings.identity == "jupyterhub":
        from codesign_kernel.server import hub

        found += hub.handlers(services)
    return found
