"""The OpenAPI document, written from the table of the routes and the schemas that requests are checked against."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from codesign_kernel import __version__
from codesign_kernel.server.api.routes import ALWAYS, ID, ROUTES, Route
from codesign_kernel.server.api.schemas import SCHEMAS

_HEADERS: dict[str, dict[str, Any]] = {
    "Location": {"description": "where it is", "schema": {"type": "string"}},
    "Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}},
    "ETag": {"description": "of what is answered", "schema": {"type": "string"}},
}
#: One event of a stream.
_EVENT: dict[str, Any] = {
    "type": "object", "required": ["data"],
    "properties": {"event": {"type": "string"}, "id": {"type": "string"}, "data": {"type": "string"}},
}  # fmt: skip


@cache
def openapi(base: str) -> dict[str, Any]:
    """The document of an API that stands at the path ``base``."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path or "/", {})[route.method.lower()] = _operation(route)
    # the index stands at the base itself, which an OpenAPI path cannot name: it begins with a slash
    server, own = base.rpartition("/")[0] or "/", "/" + base.rpartition("/")[2]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Codesign gateway", "version": __version__,
            "description": "Profiles, evaluations, explorations, RTL and co-simulation as jobs.",
        },
        "servers": [{"url": server}],
        "security": [{"token": []}],
        "paths": {own + (path if path != "/" else ""): one for path, one in paths.items()},
        "components": {
            "schemas": {**copy.deepcopy(dict(SCHEMAS)), "Document": {"type": "object"}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }  # fmt: skip


def _operation(route: Route) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": route.name, "summary": route.summary, "parameters": _parameters(route),
        "responses": {str(status): _response(status, *one) for status, one in sorted(route.answers.items())},
    }  # fmt: skip
    for status, words in ALWAYS.items():
        told["responses"].setdefault(str(status), _response(status, words, "Error"))
    if route.request:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{route.request}"}}}
        told["requestBody"] = {"required": True, "content": content}
    if route.upload:
        told["requestBody"] = {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {
                    "schema": {
                        "type": "object", "properties": {"file": {"type": "string", "format": "binary"}},
                        "required": ["file"],
                    }
                },
            },
        }  # fmt: skip
    return told


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "query", "required": False, "schema": dict(law)} for name, law in route.query.items()
    ]
    if "{id}" in route.path:
        found.append({"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{ID}$"}})
    laws = {"Idempotency-Key": "^[!-~]{1,200}$", "Last-Event-ID": "^[0-9]{1,12}$"}
    for name, words in route.headers.items():
        law = {"type": "string", **({"pattern": laws[name]} if name in laws else {})}
        found.append({"name": name, "in": "header", "required": False, "description": words, "schema": law})
    return found


def _response(status: int, words: str, schema: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {"description": words}
    headers = [name for name, at in (("Location", (201, 202)), ("Retry-After", (429, 503))) if status in at]
    if headers:
        told["headers"] = {name: _HEADERS[name] for name in headers}
    if schema is not None and "/" in schema:
        told["content"] = {schema: {"schema": _EVENT if schema == "text/event-stream" else {"type": "string"}}}
    elif schema is not None:
        told["content"] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return told
