"""Signing in through a JupyterHub: OAuth2 with a state in a signed cookie, and PKCE where the hub has it.

The hub is asked once, at sign-in; then the session is ours, and ends as every session does. The hub's own token is not
kept. Who may come to this service at all is the hub's to say (its scope ``access:services``); the role is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyterhub.services.auth import HubOAuth
from tornado import web

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.scopes import ROLES
from codesign_kernel.server.handler import Refused
from codesign_kernel.server.identity import known
from codesign_kernel.server.settings import Settings
from codesign_kernel.server.signin import SignInHandler
from codesign_kernel.store.people import NO_ROLE, Person
from codesign_kernel.store.persons import checked_role

#: What the settings' table ``hub`` must say.
NEEDED = ("api_url", "base_url", "client_id", "api_token_file", "callback_url", "service")
_DOWN_S = 10


class Hub:
    """The hub of this gateway.

    Args:
        settings: ``hub`` and ``hub_roles``.

    Raises:
        InvalidInputError: something is missing in them.
    """

    def __init__(self, settings: Settings) -> None:
        given = settings.hub
        if missing := [name for name in NEEDED if not given.get(name)]:
            raise InvalidInputError(f"identity = 'jupyterhub' needs hub = {{...}} with {', '.join(missing)}")
        try:
            token = Path(given["api_token_file"]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"hub.api_token_file cannot be read: {error}") from error
        for role in settings.hub_roles.values():
            checked_role(role)
        self._roles = settings.hub_roles
        public = given["base_url"].rstrip("/") + "/"
        self.oauth = HubOAuth(
            api_url=given["api_url"].rstrip("/"),
            api_token=token,
            base_url=settings.base_url,
            oauth_client_id=given["client_id"],
            oauth_redirect_uri=given["callback_url"],
            oauth_authorization_url=f"{public}api/oauth2/authorize",
            access_scopes={f"access:services!service={given['service']}"},
            cookie_options={"samesite": "Lax"},
        )

    def role(self, told: Mapping[str, Any]) -> str:
        """The highest role that ``hub_roles`` has for what the hub says of somebody."""
        marks = {"*", *(f"group:{name}" for name in told.get("groups") or ())}
        marks |= {f"scope:{name}" for name in told.get("scopes") or ()}
        if told.get("admin") is True:
            marks.add("admin")
        roles = [role for mark, role in self._roles.items() if mark in marks]
        return max(roles, key=lambda role: ROLES.index(role) if role in ROLES else -1, default=NO_ROLE)

    async def alive(self) -> None:
        """Ask whether the hub is there, before a browser is sent to it.

        Raises:
            Refused: 503, it is not.
        """
        await self._asked(self.oauth._api_request("GET", self.oauth.api_url + "/"))

    async def person(self, code: str, verifier: str | None) -> Mapping[str, Any]:
        """What the hub says about who brought ``code``.

        Raises:
            Refused: 503, the hub is not there; 403, it does not know the code, or the person may not come here.
        """
        pkce = {"code_verifier": verifier} if verifier else {}
        token = await self._asked(self.oauth.token_for_code(code, sync=False, **pkce))
        told = await self._asked(self.oauth.user_for_token(token, use_cache=False, sync=False))
        if not told or told.get("kind") != "user" or not self.oauth.check_scopes(self.oauth.access_scopes, told):
            raise Refused(403, "hub_refused", "JupyterHub does not let you use this service; ask its administrator")
        return cast(Mapping[str, Any], told)

    async def _asked(self, answer: Any) -> Any:
        try:
            return await answer
        except web.HTTPError as error:
            if error.status_code == 502 or "Failed to connect" in (error.log_message or ""):
                raise Refused(
                    503, "hub_down", "JupyterHub, which signs people in here, does not answer; try again soon", _DOWN_S
                ) from error
            raise Refused(403, "hub_refused", "JupyterHub did not accept this sign-in; start again") from error


class HubHandler(SignInHandler):
    """What the two steps share."""

    def initialize(self, hub: Hub) -> None:
        """Of Tornado: what the handler is given."""
        self.hub = hub


class HubStart(HubHandler):
    """``/login/hub``: to the hub."""

    @allow_unauthenticated
    async def get(self) -> None:
        """Go there, with a state that only this browser has."""
        await self.hub.alive()
        oauth = self.hub.oauth
        query = {"client_id": oauth.oauth_client_id, "redirect_uri": oauth.oauth_redirect_uri, "response_type": "code"}
        extra = {}
        if getattr(oauth, "pkce_enabled", False):
            verifier, challenge, method = oauth.generate_pkce_code_challenge()
            query |= {"code_challenge": challenge, "code_challenge_method": method}
            extra = {"code_verifier": verifier}
        if self.identity.behind_tls(self):
            oauth.cookie_options = {"samesite": "Lax", "secure": True}
        query["state"] = oauth.set_state_cookie(self, self.next_path(), **extra)
        self.redirect(f"{oauth.oauth_authorization_url}?{urlencode(query)}")


class HubBack(HubHandler):
    """``/oauth_callback``: back from the hub."""

    @allow_unauthenticated
    async def get(self) -> None:
        """Whoever this browser's state belongs to is signed in; a state counts once."""
        oauth, state = self.hub.oauth, self.get_query_argument("state", "")
        cookie = self.get_secure_cookie(oauth.get_state_cookie_name(state))
        path, verifier = oauth.get_next_url(state), getattr(oauth, "get_code_verifier", lambda _: None)(state)
        ours = bool(state) and cookie is not None and cookie.decode("ascii", "replace") == state
        ours = ours and bool(oauth._decode_state(state))
        if ours:
            oauth.clear_oauth_state(state)
        oauth.clear_oauth_state_cookies(self)
        if not ours:
            self.services.signals.refused("sign_in")
            raise Refused(403, "wrong_state", "this sign-in was not begun in this browser, or is too old; start again")
        if self.get_query_argument("error", ""):
            raise Refused(403, "hub_refused", "JupyterHub did not sign you in; ask its administrator whether you may")
        told = await self.hub.person(self.get_query_argument("code", ""), verifier)
        people, role = self.services.people, self.hub.role(told)
        person: Person = await self.identity.ask(lambda: known(people, str(told["name"]), role, "jupyterhub"))
        if person.disabled:
            raise Refused(403, "disabled", "this account is disabled here; ask an administrator")
        await self.let_in(person, path)


def handlers(services: Any) -> list[tuple[Any, ...]]:
    """The two routes of signing in through a hub.

    Raises:
        InvalidInputError: the settings lack something of the hub.
    """
    hub = {"hub": Hub(services.settings)}
    return [(r"login/hub", HubStart, hub), (r"oauth_callback", HubBack, hub)]
