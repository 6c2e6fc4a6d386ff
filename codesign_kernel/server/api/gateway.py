"""The API of the gateway itself: who asks is signed in, or has a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tornado import web

from codesign_kernel.scopes import Scope
from codesign_kernel.server.api.call import scope_for
from codesign_kernel.server.api.reading import Refusal
from codesign_kernel.server.api.routes import Route
from codesign_kernel.server.api.serving import ApiMixin
from codesign_kernel.server.handler import GateHandler, Refused
from codesign_kernel.server.identity import GateIdentity


@web.stream_request_body
class ApiHandler(ApiMixin, GateHandler):
    """One path of ``/api/v1``."""

    json_only = True

    @property
    def accepts_tokens(self) -> bool:
        """Tokens are for the API."""
        return True

    @property
    def jobs(self) -> Any:
        """The job service."""
        return self.services.jobs

    @property
    def scope(self) -> Scope:
        """That of the person's role, cut down to what their token may."""
        return scope_for(self.person, self.services.settings.cluster_workers)

    @property
    def apps(self) -> Mapping[str, Scope]:
        """The scopes of the apps that the person may open."""
        return {name: app.scope for name, app in self.services.apps.items() if self.person.has_role(app.scope.open_to)}

    def turned_away(self, why: str, **told: Any) -> None:
        """Tell operators that somebody was."""
        GateHandler.turned_away(self, why, **told)

    def trace(self) -> Mapping[str, str]:
        """That of the request's span."""
        return self.services.tracer.carried()

    def count(self, route: Route) -> None:
        """Count the request: of the API, and what is dear once more."""
        dear = ["upload"] if route.upload or route.name == "keep" else ["submit"] if route.request else []
        counted = ["api", *dear]
        for what in counted:
            wait_s = self.services.rates.take(what, self.person.subject)
            if wait_s is not None:
                words = f"at most {' in '.join(map('{:g}'.format, self.services.rates.window(what)))} s are served"
                raise Refusal(429, "too_many", f"{words} of {what}, and so many were; try later", int(wait_s))

    async def still(self) -> bool:
        """Whether the session or the token holds; a database that is away ends nothing."""
        try:
            return await cast(GateIdentity, self.identity_provider).person_now(self) is not None
        except Refused as error:
            return error.status_code == 503

    def changes(self) -> int:
        """How often somebody was signed out, kept out, or lost a token."""
        return int(self.services.people.changes)

    async def prepare(self, **given: Any) -> None:
        """Find out who asks, and refuse a body that is too long before it comes."""
        await super().prepare(**given)
        if self._finished:
            return
        try:
            self.admit(self.person)
        except Refusal as error:
            self.refuse(error)
