"""Our own pages: counted, with their style sheet and script beside them, and no app's."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jupyter_server.auth.decorator import allow_unauthenticated

from codesign_kernel.server.handler import GateHandler, Refused
from codesign_kernel.server.rates import address_key
from codesign_kernel.store.digests import sha256

_TYPES = {"gate.css": "text/css", "gate.js": "text/javascript", "app.svg": "image/svg+xml"}
_FOLDER = Path(__file__).parent / "static"


@cache
def asset(name: str) -> tuple[bytes, str]:
    """(content, version) of a file beside our pages."""
    content = (_FOLDER / name).read_bytes()
    return content, sha256(content)[:12]


class PageHandler(GateHandler):
    """A page of ours: so many a minute."""

    accepts_tokens = False

    async def prepare(self, *, _redirect_to_login: bool = True) -> None:
        """Find out who asks, and count it."""
        await super().prepare(_redirect_to_login=_redirect_to_login)
        if self._finished:
            return
        who = self.visitor.subject if self.visitor else address_key(self.request.remote_ip)
        self.count("page", who)

    def count(self, what: str, who: str) -> None:
        """Count one ``what`` of the table of rates.

        Raises:
            Refused: 429, too many.
        """
        if (wait_s := self.services.rates.take(what, who)) is not None:
            raise Refused(429, "too_many", f"too many requests; try again in {wait_s:.0f} s", wait_s, what=what)

    def show(self, template: str, status: int = 200, /, **values: object) -> None:
        """Answer with a page of ``templates/``, its style sheet and script by their versions."""
        self.set_status(status)
        versions = {kind: asset(f"gate.{kind}")[1] for kind in ("css", "js")}
        self.page(template, versions=versions, **values)

    def text(self, name: str, most: int = 4096) -> str:
        """A field of the form that was sent; "" without.

        Raises:
            Refused: it is longer than any that is meant.
        """
        given = self.get_body_argument(name, "", strip=False)
        if len(given) > most:
            raise Refused(400, "invalid", f"{name} has at most {most} characters, but got {len(given)}")
        return given


class AssetHandler(GateHandler):
    """``gate/NAME``: needed by the sign-in page too, so open to all; the same for everybody."""

    @allow_unauthenticated
    def get(self, name: str) -> None:
        """The file, kept by browsers as long as its version stays."""
        content, version = asset(name)
        self.set_header("Content-Type", _TYPES[name])
        same = self.get_query_argument("v", "") == version
        self.set_header("Cache-Control", "public, max-age=31536000, immutable" if same else "no-cache")
        self.finish(content)
