"""The routes of the API in one table: what is served, checked and written into the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from codesign_kernel.server.api import operations as do
from codesign_kernel.server.api.call import Answer, Call
from codesign_kernel.server.api.reading import JSON_BYTES, Refusal, check_text
from codesign_kernel.server.api.schemas import KINDS, REQUEST_OF
from codesign_kernel.store.jobs import STATES

ID = "[0-9a-f]{32}"
_LIMIT: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 200, "default": do.PAGE}
_AFTER: dict[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,200}$"}
#: Refused with these whatever the route: {status: in words}.
ALWAYS: Mapping[int, str] = MappingProxyType(
    {
        400: "the request is malformed: a parameter, a header or the body's form",
        401: "nobody is signed in, or the token is wrong, has expired or was revoked",
        403: "the role, the token or the scope does not allow it, or a cookie came without its form's token",
        429: "asked too often; Retry-After says when to come back",
        500: "a fault of the server",
        503: "the queue is full, or the database is away; Retry-After says when to come back",
    }
)


@dataclass(frozen=True)
class Route:
    """One method of one path.

    Attributes:
        method, path: ``{id}`` stands for 32 hexadecimal digits.
        name: of the operation, for programs. summary: for people.
        run: answers a call; it blocks.
        query: {name: JSON schema}. request: name of the body's schema.
        answers: {status: (in words, schema of the answer or its media type or None)}.
        headers: of requests that are looked at, {name: in words}.
        upload: whether the body is a file.
    """

    method: str
    path: str
    name: str
    summary: str
    run: Callable[[Call], Answer]
    answers: Mapping[int, tuple[str, str | None]]
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    request: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: bool = False

    @property
    def body_bytes(self) -> int:
        """The largest body that is read; an upload's is that of the scope."""
        return JSON_BYTES if self.request else 0


_TAG = {"If-None-Match": "the ETag that the asker has"}
_SAME = (304, ("not changed", None))


def _tagged(schema: str, *, found: bool = False) -> dict[int, tuple[str, str | None]]:
    answers: dict[int, tuple[str, str | None]] = {200: ("as asked", schema), _SAME[0]: _SAME[1]}
    return {**answers, 404: ("there is none of that id that is one's own", "Error")} if found else answers


def _plain(path: str, name: str, summary: str, run: Callable[[Call], Answer], schema: str) -> Route:
    return Route("GET", path, name, summary, run, _tagged(schema), headers=_TAG)


def _submission(kind: str) -> Route:
    path, words = KINDS[kind], f"Ask for a job of the kind {kind}"
    answers: dict[int, tuple[str, str | None]] = {
        200: ("the job of that idempotency key, or one that has ended already", "Job"),
        202: ("accepted; Location says where the job is", "Job"),
        413: ("the body is too large", "Error"),
        415: ("the body is no JSON", "Error"),
        422: ("a field breaks its law, or the idempotency key stands for another request", "Error"),
    }
    headers = {
        "Idempotency-Key": "1 to 200 visible characters: the same job for the same request",
        "Prefer": "wait=N: answer when the job has ended, or after N seconds; what is no such wish is passed over",
    }
    run = partial(do.submit, kind=kind)
    return Route("POST", f"/{path}", f"submit_{kind}", words, run, answers, request=REQUEST_OF[kind], headers=headers)


_PAGES: dict[str, dict[str, Any]] = {"limit": _LIMIT, "after": _AFTER}
_NONE = (404, ("there is none of that id that is one's own", "Error"))

ROUTES: tuple[Route, ...] = (
    _plain("", "index", "Where everything is", do.index, "Index"),
    _plain("/openapi.json", "document", "This document", do.document, "Document"),
    _plain("/me", "me", "Who asks, and what they may do", do.me, "Person"),
    _plain("/scopes", "scopes", "The scopes of the API and of the apps", do.scopes, "Scopes"),
    _plain("/models", "models", "Networks by name, with their work", do.models, "Models"),
    _plain("/templates", "templates", "Machines by name", do.templates, "Templates"),
    *(_submission(kind) for kind in KINDS),
    Route(
        "GET", "/jobs", "list_jobs", "One's jobs, the newest first", do.job_list,
        {200: ("a page; the header Link names the next", "Jobs")},
        {**_PAGES, "kind": {"type": "string", "enum": [*KINDS]}, "state": {"type": "string", "enum": [*STATES]}},
    ),
    Route("GET", "/jobs/{id}", "get_job", "One job", do.job_get, _tagged("Job", found=True), headers=_TAG),
    Route(
        "DELETE", "/jobs/{id}", "delete_job", "Stop a job that waits or runs; forget one that has ended",
        do.job_delete,
        {200: ("stopped", "Job"), 202: ("it is being stopped", "Job"), 204: ("forgotten", None), _NONE[0]: _NONE[1]},
    ),
    Route(
        "GET", "/jobs/{id}/events", "job_events", "The job's progress as server-sent events", do.job_events,
        {200: ("events, numbered from 1, to the job's end", "text/event-stream"), _NONE[0]: _NONE[1]},
        {"after": {"type": "integer", "minimum": 0, "maximum": 10**12 - 1}},
        headers={"Last-Event-ID": "the number of the last event that was seen"},
    ),
    Route(
        "GET", "/jobs/{id}/result", "job_result", "What came of a job that is done", do.job_result,
        {**_tagged("Result", found=True), 409: ("it is not done", "Error")}, headers=_TAG,
    ),
    Route(
        "GET", "/artefacts", "list_artefacts", "One's uploads and results, the newest first", do.file_list,
        {200: ("a page; the header Link names the next", "Artefacts")},
        {**_PAGES, "job": {"type": "string", "pattern": f"^{ID}$"}},
    ),
    Route(
        "POST", "/artefacts", "keep", "Keep what one made, as JSON, in the place of what had the name", do.keep,
        {
            201: ("kept; Location says where", "Artefact"), 413: ("too large, or too much in all", "Error"),
            415: ("the body is no JSON", "Error"), 422: ("a field breaks its law", "Error"),
        },
        request="KeepRequest",
    ),
    Route(
        "GET", "/artefacts/{id}", "get_artefact", "The content of a file", do.file_get,
        {200: ("its bytes", "application/octet-stream"), _SAME[0]: _SAME[1], _NONE[0]: _NONE[1]}, headers=_TAG,
    ),
    Route(
        "DELETE", "/artefacts/{id}", "delete_artefact", "Delete a file", do.file_delete,
        {204: ("deleted", None), _NONE[0]: _NONE[1]},
    ),
    Route(
        "POST", "/uploads", "upload", "Take a model: an exported program (.pt2) or ONNX", do.upload,
        {
            201: ("kept; Location says where", "Artefact"), 413: ("too large, or too much in all", "Error"),
            415: ("another media type", "Error"), 422: ("no such model; the message says what it is", "Error"),
        },
        {"name": {"type": "string", "minLength": 1, "maxLength": 200}}, upload=True,
    ),
)  # fmt: skip


def read_query(route: Route, given: Mapping[str, list[bytes]]) -> dict[str, str]:
    """The parameters of a request, each of the route's table, once, and lawful.

    Raises:
        Refusal: 400.
    """
    found = {}
    for name, values in given.items():
        if name not in route.query:
            known = ", ".join(route.query) or "none"
            raise Refusal(400, "malformed", f"the parameters here are {known}, but got {name!r:.40}")
        if len(values) != 1:
            raise Refusal(400, "malformed", f"the parameter {name} is given once, but here {len(values)} times")
        try:
            text = values[0].decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refusal(400, "malformed", f"the parameter {name} is text in UTF-8") from error
        check_text(text)
        _check(name, text, route.query[name])
        found[name] = text
    return found


def _check(name: str, text: str, law: Mapping[str, Any]) -> None:
    if law["type"] == "integer":
        right = re.fullmatch(r"(0|[1-9][0-9]{0,14})", text) and law["minimum"] <= int(text) <= law["maximum"]
        words = f"a whole number of {law['minimum']} to {law['maximum']}"
    elif "enum" in law:
        right, words = text in law["enum"], f"one of {', '.join(law['enum'])}"
    elif "pattern" in law:
        right, words = re.search(law["pattern"], text) and "\n" not in text, f"a text like {law['pattern']}"
    else:
        right, words = law["minLength"] <= len(text) <= law["maxLength"], f"of {law['maxLength']} characters at most"
    if not right:
        raise Refusal(400, "malformed", f"the parameter {name} is {words}, but got {text!r:.60}")
