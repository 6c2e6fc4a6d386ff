"""What every answer says to the browser, which hosts are ours, and which paths are no paths at all.

Set once, behind every handler (:class:`Hardened`): a handler that forgets its headers has the strictest ones.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from tornado import httputil, web

from codesign_kernel.server.settings import Settings

#: Of pages that are ours alone; scripts and styles carry the nonce of their answer.
OWN_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: Of Voila's pages. Its templates have scripts in the page, its bundles make functions from text (Plotly, the loader of
#: JupyterLab's extensions), widgets are modules that come as blobs. No source outside of the gateway.
APP_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' {sockets} data: blob:; "
    "worker-src 'self' blob:; media-src 'self' data: blob:; object-src 'none'; form-action 'self'; base-uri 'self'; "
    "frame-ancestors 'none'"
)
#: Of an answer whose handler says nothing: data, which no browser has to run.
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

FIXED: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
}
STRICT_TRANSPORT = "max-age=31536000; includeSubDomains"
#: Seconds after which to ask again, where nobody knows better.
RETRY_S = 5
#: What no path of ours has, plain or encoded: dots that climb, empty parts, backslashes, control characters, and a
#: percent sign or a slash that is hidden by encoding.
_NO_PATH = re.compile(r"(^|/)\.{1,2}(/|$)|//|\\|%(2e|2f|5c|25|00|[01][0-9a-f]|7f)|[\x00-\x1f\x7f;]", re.IGNORECASE)


def sockets_of(settings: Settings, host: str) -> str:
    """The addresses of websockets that a page at ``host`` may open: our own."""
    public = urlsplit(settings.public_url).netloc
    names = dict.fromkeys(name for name in (host, public) if name and _HOST.fullmatch(name))
    return " ".join(f"ws://{name} wss://{name}" for name in names)


_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?")


def host_allowed(host: str, settings: Settings) -> bool:
    """Whether a request's Host header names this gateway.

    A page of another name that resolves to our address (DNS rebinding) is refused; an address itself cannot be
    rebound, so that any is right where we listen beyond loopback.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = match["name"].strip("[]").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        ours = {"localhost", settings.host.lower(), (urlsplit(settings.public_url).hostname or "").lower()}
        return name in ours - {""}
    return address.is_loopback or settings.host not in ("127.0.0.1", "::1", "localhost")


def origin_allowed(origin: str, request: httputil.HTTPServerRequest, settings: Settings) -> bool:
    """Whether a request's Origin is the page's own, or that of ``settings.public_url``."""
    public = urlsplit(settings.public_url)
    ours = {f"{request.protocol}://{request.host}".lower()}
    if public.netloc:
        ours.add(f"{public.scheme}://{public.netloc}".lower())
    return origin.lower() in ours


def path_allowed(path: str) -> bool:
    """Whether a request's path, as it was sent, can be one of ours: nothing climbs, hides or is empty in it."""
    return path.startswith("/") and not _NO_PATH.search(path)


def behind_tls(settings: Settings) -> bool:
    """Whether people reach the gateway by https."""
    return urlsplit(settings.public_url).scheme == "https"


def address_of(request: httputil.HTTPServerRequest, trusted: tuple[str, ...]) -> tuple[str, str]:
    """The address and the protocol of who asks: those that a trusted proxy tells, else those of the connection.

    The last address of X-Forwarded-For that is no trusted proxy's: what stands before it anybody can write.
    """
    remote, protocol = request.remote_ip or "", request.protocol
    if remote not in trusted:
        return remote, protocol
    told = request.headers.get("X-Forwarded-Proto", "").split(",")[-1].strip()
    for given in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
        given = given.strip()
        try:
            ipaddress.ip_address(given)
        except ValueError:
            break
        remote = given
        if given not in trusted:
            break
    return remote, told if told in ("http", "https") else protocol


class Hardened(web.OutputTransform):
    """The last thing before an answer leaves: our headers where the handler set none, no name of the server."""

    strict_transport = False

    def __init__(self, request: httputil.HTTPServerRequest) -> None:
        """Of Tornado."""
        self._request = request

    def transform_first_chunk(
        self, status_code: int, headers: httputil.HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, httputil.HTTPHeaders, bytes]:
        if "Server" in headers:
            del headers["Server"]
        for name, value in FIXED.items():
            headers.setdefault(name, value)
        if "default-src" not in headers.get("Content-Security-Policy", ""):
            headers["Content-Security-Policy"] = DATA_POLICY
        if self.strict_transport:
            headers.setdefault("Strict-Transport-Security", STRICT_TRANSPORT)
        if status_code in (429, 503):
            headers.setdefault("Retry-After", str(RETRY_S))
        # Tornado closes a connection whose body it has not read; who asks has to know that
        body = getattr(self._request, "_body_future", None)
        if body is not None and not body.done():
            headers["Connection"] = "close"
        if status_code != 101:
            headers.setdefault("Cache-Control", "no-store")
        return status_code, headers, chunk
