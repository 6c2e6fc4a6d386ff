"""The gateway's plain pages: what went wrong, and the waiting room. No version, no path, no script."""

from __future__ import annotations

import html
import secrets
from http import HTTPStatus

from codesign_kernel.server.headers import OWN_POLICY

_STYLE = """
:root { --ground:#FFFFFF; --text:#1B2430; --muted:#5B6675; --accent:#2563EB; --on:#FFFFFF }
@media (prefers-color-scheme: dark) {
  :root { --ground:#12161C; --text:#E8ECF1; --muted:#9AA7B6; --accent:#6EA0FF; --on:#12161C }
  html { color-scheme: dark } }
body { margin:0; background:var(--ground); color:var(--text); font:15px/1.5 system-ui,sans-serif }
main { max-width:560px; margin:12vh auto 0; padding:24px; box-sizing:border-box }
h1 { font-size:28px; font-weight:600; margin:0 0 8px } p { margin:0 0 16px; color:var(--muted) }
.place { font-size:20px; color:var(--text); font-variant-numeric:tabular-nums }
a.button { display:inline-block; min-height:40px; line-height:40px; padding:0 16px; border-radius:6px;
  background:var(--accent); color:var(--on); text-decoration:none }
a.button:focus-visible { outline:2px solid var(--text); outline-offset:2px }
@media (max-width:600px) { main { margin-top:24px; padding:16px } h1 { font-size:20px } }
"""

#: {status: what has happened, for people}; the sentence that comes with it says what to do.
TITLES: dict[int, str] = {
    400: "This request makes no sense here",
    401: "Sign in first",
    403: "You may not do this",
    404: "There is nothing here",
    405: "This cannot be done here",
    413: "This is too large",
    429: "Too many requests",
    503: "Not now",
    507: "The disk is full",
}
_OTHER = "Something went wrong"
#: What is said where the status alone is known.
_REMEDIES: dict[int, str] = {
    403: "Sign in as somebody who may, or ask whoever runs this gateway.",
    404: "The address may be misspelt, or what was here has ended.",
    429: "Wait a moment, then try again.",
    503: "Wait a moment, then try again.",
}


def document(title: str, body: str, nonce: str, head: str = "") -> str:
    """A whole page; ``title`` is text, ``body`` and ``head`` are HTML that was made safe."""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">{head}'
        f'<style nonce="{nonce}">{_STYLE}</style></head><body><main>{body}</main></body></html>'
    )


def nonce_and_policy() -> tuple[str, str]:
    """A nonce for one answer, and the policy that has it."""
    nonce = secrets.token_urlsafe(16)
    return nonce, OWN_POLICY.format(nonce=nonce)


def error_page(status: int, message: str, home: str, reference: str) -> tuple[str, str]:
    """The page for a status, and its policy.

    Args:
        status: of HTTP.
        message: what may be told of it.
        home: where the gallery is.
        reference: by which the server's log knows the request; told where the fault is ours.
    """
    title = TITLES.get(status, _OTHER)
    plain = HTTPStatus(status).phrase.lower() if status in HTTPStatus._value2member_map_ else ""
    told = _REMEDIES.get(status, "") if message.lower() == plain else f"{message[:1].upper()}{message[1:]}."
    if status >= 500 and status not in TITLES:
        told += f" Its number is {reference}."
    nonce, policy = nonce_and_policy()
    body = (
        f"<h1>{html.escape(title)}</h1><p>{html.escape(told)}</p>"
        f'<p><a class="button" href="{html.escape(home)}">All apps</a></p>'
    )
    return document(title, body, nonce), policy


def waiting_page(app: str, home: str, place: int, retry_s: int, crowded: bool = False) -> tuple[str, str]:
    """The waiting room of an app, which asks again by itself; ``place`` 0: the person has too many apps open;
    ``crowded``: the guests from one address have."""
    nonce, policy = nonce_and_policy()
    if crowded:
        title = f"{app}: waiting for a place"
        told = '<p class="place" role="status">Other guests from your network have all places that guests of one '
        told += "network may have.</p><p>This page opens the app by itself as soon as one of them leaves. Who signs in "
        told += "with a name does not wait for them.</p>"
    elif place:
        title = f"{app}: waiting for a place"
        told = f'<p class="place" role="status">You are number {place} in the queue.</p>'
        told += "<p>Every place is taken at the moment. This page opens the app by itself as soon as one is free.</p>"
    else:
        title = f"{app}: you have too many apps open"
        told = '<p class="place" role="status">Close a page of an app that you no longer need.</p>'
        told += "<p>Each person may have a few open at once. This page opens the app by itself when one is closed.</p>"
    body = f'<h1>{html.escape(title)}</h1>{told}<p><a class="button" href="{html.escape(home)}">All apps</a></p>'
    return document(title, body, nonce, f'<meta http-equiv="refresh" content="{int(retry_s)}">'), policy
