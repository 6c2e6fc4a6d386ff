"""The base of all our handlers: who asks, what they may, errors in one form, and pages that run no foreign script."""

from __future__ import annotations

import json
import re
import secrets
import sys
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode, urlsplit

import jinja2
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from codesign_kernel.errors import (
    CodesignError,
    ConsentError,
    InvalidInputError,
    ScopeError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from codesign_kernel.server.pages import error_page
from codesign_kernel.server.signals import method_of, route_of
from codesign_kernel.store.people import Person
from codesign_kernel.telemetry.log import REQUEST_ID, SUBJECT

if TYPE_CHECKING:
    from codesign_kernel.server.services import Services

#: Of our own pages: nothing from elsewhere, nothing in the page itself, and nobody may frame them.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: {kind of error: (status, code)}, the most special first; of any other nothing is told but that it happened.
_STATUS: tuple[tuple[type[CodesignError], int, str], ...] = (
    (ConsentError, 403, "consent_needed"),
    (ScopeError, 403, "not_allowed"),
    (InvalidInputError, 400, "invalid"),
    (StoreFullError, 507, "store_full"),
    (StoreUnavailableError, 503, "store_unavailable"),
)
#: What is said where the error's own words may tell more than a visitor should know: names of files and servers.
_INSTEAD = {
    "store_full": "the server's disk is full, and nothing was written; tell its operator",
    "store_unavailable": "the server cannot reach its database; try again in a few seconds",
}
_CODES = {
    400: "invalid", 401: "not_signed_in", 403: "forbidden", 404: "not_found", 405: "wrong_method", 409: "conflict",
    413: "too_large", 415: "wrong_type", 429: "too_many", 500: "internal", 503: "unavailable",
}  # fmt: skip
_FOREIGN = "this form is too old, or came from another site; go back, reload the page and send it again"
#: {code of an error: why somebody was turned away}; of other codes operators are told nothing but the request.
WHY = {
    "xsrf": "xsrf", "role_needed": "scope", "capability_needed": "scope", "not_allowed": "scope", "scope": "scope",
    "too_many": "rate", "too_many_streams": "rate", "bad_token": "sign_in",
}  # fmt: skip
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Seconds after which to come back, where nobody knows better.
RETRY_S = 5


class Refused(web.HTTPError):
    """An answer that is an error, in words that the visitor may read.

    Args:
        status: of HTTP.
        code: one word for programs.
        message: for people: the law, the value, the remedy.
        retry_s: seconds after which to come back.
        why: of ``metrics.REFUSALS``, where the code alone does not say it (:data:`WHY`).
        told: numbers and words of ours for the audit trail.
    """

    def __init__(
        self, status: int, code: str, message: str, retry_s: float | None = None, *, why: str = "", **told: Any
    ) -> None:
        super().__init__(status, message)
        self.code, self.message, self.retry_s = code, message, retry_s
        self.why, self.told = why or WHY.get(code, ""), told


def local_path(text: str | None, base_url: str) -> str:
    """``text`` if it is a path of this server below ``base_url``, else ``base_url``: no way out to another site."""
    if not text or not text.startswith(base_url) or text.startswith(("//", "/\\")):
        return base_url
    # a backslash or a control character means a slash or nothing to browsers
    if "\\" in text or any(ord(letter) <= 32 or ord(letter) == 127 for letter in text):
        return base_url
    parts = urlsplit(text)
    return base_url if parts.scheme or parts.netloc else text


def own_origin(handler: JupyterHandler) -> bool:
    """Whether a request comes from a page of ours, as far as the browser says; a program says nothing."""
    headers = handler.request.headers
    if headers.get("Sec-Fetch-Site") == "cross-site":
        return False
    origin = headers.get("Origin") or headers.get("Sec-Websocket-Origin")
    if origin is None:
        return True
    ours = {f"{handler.request.protocol}://{handler.request.host}".lower()}
    if public := handler.settings["gateway"].settings.public_url:
        parts = urlsplit(public)
        ours.add(f"{parts.scheme}://{parts.netloc}".lower())
    return origin.lower() in ours


@cache
def templates() -> jinja2.Environment:
    """The pages; every value is escaped, and one that is not there is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("codesign_kernel.server"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class GateHandler(JupyterHandler):
    """What each of our handlers has.

    Without more, only somebody who is signed in comes in: a browser is sent to the sign-in page, a program gets 401. A
    method with jupyter_server's ``allow_unauthenticated`` is open to all; there ``person`` may be ``None``.
    """

    #: answers errors in JSON; without, a browser gets a page
    json_only = False
    _span: Any = None

    @property
    def services(self) -> Services:
        """The parts of this gateway."""
        return cast("Services", self.settings["gateway"])

    @property
    def accepts_tokens(self) -> bool:
        """Whether an API token opens this: the REST API alone, unless a subclass says so."""
        return self.request.path.startswith(url_path_join(self.base_url, "/api/v1/"))

    @property
    def visitor(self) -> Person | None:
        """Who asks; ``None`` if nobody is signed in."""
        user = getattr(self, "_jupyter_current_user", None)
        return None if user is None else user.person

    @property
    def person(self) -> Person:
        """Who asks.

        Raises:
            Refused: nobody is signed in.
        """
        if (visitor := self.visitor) is None:
            raise Refused(401, "not_signed_in", "sign in first")
        return visitor

    @property
    def request_id(self) -> str:
        """Of this request: a trusted proxy's (``Application`` drops anybody else's), if that is one, else a new one."""
        if not hasattr(self, "_request_id"):
            given = self.request.headers.get("X-Request-ID", "")
            self._request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        return self._request_id

    @property
    def wants_json(self) -> bool:
        """Whether errors are answered in JSON."""
        accept = self.request.headers.get("Accept", "")
        api = self.request.path.startswith(url_path_join(self.base_url, "/api/"))
        return self.json_only or api or ("application/json" in accept and "text/html" not in accept)

    @property
    def content_security_policy(self) -> str:
        """Of our own pages; an app's page is Voila's."""
        return PAGE_POLICY

    def set_default_headers(self) -> None:
        """Nothing is kept by caches, nothing is told to other sites."""
        super().set_default_headers()
        self.set_header("X-Request-ID", self.request_id)
        # not "no-referrer": browsers then send a form's Origin as "null"
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")

    def set_cors_headers(self) -> None:
        """No other site may read our answers: jupyter_server would allow it to who has a token."""

    def check_origin(self, origin_to_satisfy_tornado: str = "") -> bool:
        """Whether the request comes from a page of ours."""
        return self.skip_check_origin() or own_origin(self)

    def check_xsrf_cookie(self) -> None:
        """A change that a cookie vouches for comes from a form of ours; a token is never sent by itself.

        Raises:
            Refused: it does not.
        """
        if not hasattr(self, "_jupyter_current_user") or self.token_authenticated:
            return  # not known yet: ``prepare`` asks again
        if not own_origin(self):
            raise Refused(403, "xsrf", _FOREIGN, why="origin")
        try:
            web.RequestHandler.check_xsrf_cookie(self)
        except web.HTTPError as error:
            raise Refused(403, "xsrf", _FOREIGN) from error

    async def prepare(self, *, _redirect_to_login: bool = True) -> None:
        """Find out who asks; who is nobody is sent to sign in."""
        REQUEST_ID.set(self.request_id)  # of this request alone: Tornado answers each in a task of its own
        tracer = self.services.tracer
        self._span = tracer.begin("request", self.request.headers, inside=True)
        for name, value in tracer.carried(self._span).items():
            self.set_header(name, value)
        try:
            await super().prepare(_redirect_to_login=False)
            SUBJECT.set(self.visitor.subject if self.visitor is not None else "")
        except web.HTTPError as error:
            if error.status_code != 403 or self.visitor is not None or self._is_open():
                raise
            self._ask_to_sign_in()

    def on_finish(self) -> None:
        """Of Tornado: the answer has gone out."""
        super().on_finish()
        if self._span is not None:
            status, self._span, span = self.get_status(), None, self._span
            route, method = route_of(self), method_of(self)
            self.services.tracer.end(
                span, failed=status >= 500, name=f"{method} {route}", route=route, status=status, method=method,
                request_id=self.request_id,
            )  # fmt: skip

    def _is_open(self) -> bool:
        method = getattr(self, (self.request.method or "get").lower(), None)
        return bool(getattr(method, "__allow_unauthenticated", False))

    def _ask_to_sign_in(self) -> None:
        if self.wants_json or self.request.method not in ("GET", "HEAD"):
            self.set_header("WWW-Authenticate", "Bearer")
            raise Refused(401, "not_signed_in", "sign in, or send an API token in the header Authorization")
        self.redirect(f"{self.base_url}login?{urlencode({'next': self.request.uri or self.base_url})}")

    def require_role(self, role: str) -> Person:
        """The person, whose role is ``role`` or above.

        Raises:
            Refused: it is not.
        """
        if not self.person.has_role(role):
            raise Refused(403, "role_needed", f"this needs the role {role}; ask an administrator for it")
        return self.person

    def require_capability(self, name: str) -> Person:
        """The person, whose role and token have the capability.

        Raises:
            Refused: they have not.
        """
        if not self.person.may(name):
            whose = "this API token" if self.person.via == "token" else f"the role {self.person.role or 'none'}"
            raise Refused(403, "capability_needed", f"this needs the capability {name}, which {whose} does not have")
        return self.person

    def require_browser(self) -> Person:
        """The person, signed in with a browser: what a token could widen itself by is not for tokens.

        Raises:
            Refused: they came with a token.
        """
        if self.person.via == "token":
            raise Refused(403, "browser_needed", "this is done on the account page, not with an API token")
        return self.person

    def page(self, template: str, /, **values: Any) -> None:
        """Answer with a page of ``templates/``."""
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        visitor = self.visitor
        self.finish(
            templates()
            .get_template(template)
            .render(
                base_url=self.base_url,
                visitor=visitor,
                # asked for only where there is a form: it sets a cookie
                xsrf=lambda: self.xsrf_token.decode(),
                **values,
            )
        )

    def answer(self, body: object, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=UTF-8")
        self.finish(json.dumps(body, ensure_ascii=False, allow_nan=False))

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """An error of the library has a status of its own."""
        error = (kwargs.get("exc_info") or sys.exc_info())[1]
        for kind, status, code in _STATUS:
            if isinstance(error, kind) and not isinstance(error, web.HTTPError):
                status_code = status
                self.turned_away(WHY.get(code, ""))
                break
        if isinstance(error, Refused):
            self.turned_away(error.why, **error.told)
        super().send_error(status_code, **kwargs)

    def turned_away(self, why: str, **told: Any) -> None:
        """Tell operators that somebody was, where ``why`` says so: the one place for all our handlers."""
        if why:
            self.services.signals.refused(why, self.visitor.subject if self.visitor else "", **told)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """The error as JSON, or as a page: words meant for visitors, never a trace or a path of this server."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        code, message = _told(status_code, error)
        retry_s = getattr(error, "retry_s", None)
        if status_code in (429, 503) or retry_s is not None:
            self.set_header("Retry-After", str(max(1, round(retry_s or RETRY_S))))
        if status_code == 401:
            self.set_header("WWW-Authenticate", "Bearer")
        if self.wants_json:
            self.set_header("Content-Type", "application/json; charset=UTF-8")
            self.finish(json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False))
            return
        page, policy = error_page(status_code, message, self.base_url, self.request_id)
        self.set_header("Content-Security-Policy", policy)
        self.finish(page)

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """What a visitor did wrong is no error of ours."""
        if isinstance(error, tuple(known for known, *_ in _STATUS)) and not isinstance(error, StoreError):
            return
        super().log_exception(kind, error, trace)

    def _request_summary(self) -> str:
        # the query may hold a token or what somebody typed: it is in no log
        return f"{method_of(self)} {self.request.path:.200} ({self.request.remote_ip})"


def _told(status: int, error: BaseException | None) -> tuple[str, str]:
    """(code, message) of an error, as a visitor may read it."""
    if isinstance(error, Refused):
        return error.code, error.message
    for kind, _, code in _STATUS:
        if isinstance(error, kind):
            return code, _INSTEAD.get(code, str(error))
    phrase = HTTPStatus(status).phrase.lower() if status in HTTPStatus._value2member_map_ else "error"
    if status >= 500 and status != 503:
        phrase = "something went wrong here; the server's log has the details"
    return _CODES.get(status, "error"), phrase
