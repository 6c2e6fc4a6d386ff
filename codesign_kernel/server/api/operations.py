"""What each route answers, in plain functions that block; they run in threads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from codesign_kernel import __version__
from codesign_kernel.accelerator.catalog import names as machine_names
from codesign_kernel.errors import ConsentError, InvalidInputError, ScopeError
from codesign_kernel.scopes import Scope
from codesign_kernel.server.api.call import JSON, Answer, Call, matched, tagged
from codesign_kernel.server.api.known import networks
from codesign_kernel.server.api.reading import Refusal
from codesign_kernel.server.api.schemas import KINDS, REQUEST_OF
from codesign_kernel.server.runner import text_of
from codesign_kernel.store.belongings import Belonging
from codesign_kernel.store.jobs import ENDED, JobRecord, cursor_of, place_of
from codesign_kernel.uploads import check_upload

#: Designs up to which an evaluation is answered at once, and how long the answer waits for it (s).
SMALL, SMALL_S, LONGEST_S = 64, 3.0, 20.0
PAGE = 50
#: Things that one person keeps from apps.
KEPT = 200
_AGREE = "say yes to Keep my work on your account page, then repeat"
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


# what there is --------------------------------------------------------------------------------------------------------
def index(call: Call) -> Answer:
    """Where everything is."""
    names = ("me", "scopes", "models", "templates", *KINDS.values(), "jobs", "artefacts", "uploads")
    links = {name: f"{call.base}/{name}" for name in names}
    return tagged(call, {"version": __version__, "links": {**links, "openapi": f"{call.base}/openapi.json"}})


def document(call: Call) -> Answer:
    """This API, for programs."""
    from codesign_kernel.server.api.openapi import openapi

    return tagged(call, openapi(call.base))


def me(call: Call) -> Answer:
    """Who asks, and what they may do."""
    person = call.person
    told = {"subject": person.subject, "name": person.name, "role": person.role, "via": person.via}
    return tagged(call, {**told, "scope": _scope(call.scope)})


def scopes(call: Call) -> Answer:
    """The API's scope and those of the apps."""
    return tagged(call, {"scopes": [_scope(call.scope), *(_scope(scope) for scope in call.apps.values())]})


def _scope(scope: Scope) -> dict[str, Any]:
    return {"name": scope.name, **scope.plain()}


def models(call: Call) -> Answer:
    """The networks that a request may name."""
    rows = [
        {
            "name": name,
            **{key: value for key, value in one.items() if key != "profile"},
            "allowed": _allows(call.scope.allows_model, name),
        }
        for name, one in networks().items()
    ]
    return tagged(call, {"models": rows})


def templates(call: Call) -> Answer:
    """The machines that a request may name."""
    rows = [
        {"name": n, "generated": n.startswith("generator"), "allowed": _allows(call.scope.allows_template, n)}
        for n in machine_names()
        if not n.startswith(("nvdla", "eyeriss"))
    ]
    return tagged(call, {"templates": rows})


def _allows(check: Any, name: str) -> bool:
    try:
        check(name)
    except ScopeError:
        return False
    return True


# jobs -----------------------------------------------------------------------------------------------------------------
def submit(call: Call, kind: str) -> Answer:
    """Take a job, or answer with the one that the idempotency key names."""
    request = call.read(REQUEST_OF[kind])
    check_scope(call.scope, kind, request)
    if (upload := request.get("upload")) is not None and call.jobs.belongings.get(call.owner, upload) is None:
        raise Refusal(422, "invalid", "upload: is an artefact of one's own, but there is none of that id")
    if (key := call.headers.get("idempotency-key")) is not None and not _KEY.fullmatch(key):
        raise Refusal(400, "malformed", "an Idempotency-Key has 1 to 200 visible ASCII characters without spaces")
    row, new = call.jobs.submit(call.owner, call.scope, kind, request, key, call.trace)
    headers = {"Location": f"{call.base}/jobs/{row.id}"}
    if not new:
        headers["Idempotent-Replayed"] = "true"
    wait_s = _wait_s(call, kind, request)
    status = 200 if not new or row.state in ENDED else 202
    return Answer(status, job_body(call, row, with_result=bool(wait_s)), headers,
                  wait=(row.id, wait_s) if wait_s and row.state not in ENDED else None)  # fmt: skip


def _wait_s(call: Call, kind: str, request: Mapping[str, Any]) -> float:
    asked = re.fullmatch(r"wait=([0-9]{1,3})", call.headers.get("prefer", "").replace(" ", ""))
    if asked:
        return min(LONGEST_S, float(asked[1]))
    return SMALL_S if kind == "evaluate" and len(request["designs"]) <= SMALL else 0.0


def check_scope(scope: Scope, kind: str, request: Mapping[str, Any]) -> None:
    """Refuse what the scope does not allow, as far as the request alone tells; the worker checks again.

    Raises:
        ScopeError: the message names the capability, or the limit and its value.
    """
    scope.require({"profile": "profile", "generate": "generate", "cosimulate": "cosimulate"}.get(kind, "explore"))
    if kind == "optimize":
        scope.require("optimize")
    if "upload" in request:
        scope.require("upload")
    if (name := request.get("model") or request.get("network")) is not None:
        scope.allows_model(name)
        scope.within("macs", networks()[name]["macs"])
    designs = request.get("designs", [request["design"]] if "design" in request else [])
    for design in designs:
        if "template" in design:
            scope.allows_template(design["template"])
    if "workers" in request:
        scope.require("cluster")
        scope.within("workers", request["workers"])
    if "budget" in request and kind == "explore":
        scope.within("designs", request["budget"])
    scope.within("designs", len(designs))


def job_list(call: Call) -> Answer:
    """One page of jobs, the newest first."""
    limit = int(call.query.get("limit", PAGE))
    rows = call.jobs.table.page(
        call.owner, limit + 1, _after(call), kind=call.query.get("kind"), state=call.query.get("state")
    )
    return _page(call, "jobs", [job_body(call, row) for row in rows[:limit]], rows, limit)


def _after(call: Call) -> str | None:
    """The place behind which a page begins.

    Raises:
        Refusal: 400, it is none.
    """
    if (after := call.query.get("after")) is not None:
        try:
            place_of(after)
        except InvalidInputError as error:
            raise Refusal(400, "malformed", str(error)) from error
    return after


def _page(call: Call, name: str, bodies: list[Any], rows: list[Any], limit: int) -> Answer:
    """A page, with the place behind it where there is more."""
    if len(rows) <= limit:
        return Answer(200, {name: bodies, "next": None})
    after = cursor_of(rows[limit - 1].created_at, rows[limit - 1].id)
    href = f"{call.base}/{name}?{urlencode({**call.query, 'after': after})}"
    return Answer(200, {name: bodies, "next": href}, {"Link": f'<{href}>; rel="next"'})


def job_body(call: Call, row: JobRecord, *, with_result: bool = False) -> dict[str, Any]:
    """A job as it is shown."""
    told: dict[str, Any] = {
        "id": row.id, "kind": row.kind, "state": row.state, "scope": row.scope, "done": row.done,
        "message": row.message, "error": call.jobs.why(row), "attempt": row.attempt,
        "created_at": row.created_at.isoformat(), "started_at": _at(row.started_at),
        "finished_at": _at(row.finished_at), "expires_at": _at(row.expires_at), "href": f"{call.base}/jobs/{row.id}",
    }  # fmt: skip
    if with_result and row.state == "done":
        told["result"] = call.jobs.result(row)
    return told


def _at(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat()


def _job(call: Call) -> JobRecord:
    row = call.jobs.table.get(call.owner, call.path["id"])
    if row is None:
        raise Refusal(404, "not_found", "there is no such job, or it is somebody else's, or it has expired")
    return row


def job_get(call: Call) -> Answer:
    """One job."""
    return tagged(call, job_body(call, _job(call)))


def job_waited(call: Call, job: str) -> Answer:
    """The job of an answer that has waited for it."""
    row = call.jobs.table.get(call.owner, job)
    if row is None:
        raise Refusal(404, "not_found", "the job was deleted")
    headers = {"Location": f"{call.base}/jobs/{job}"}
    return Answer(200 if row.state in ENDED else 202, job_body(call, row, with_result=True), headers)


def job_delete(call: Call) -> Answer:
    """Stop a job that waits or runs; forget one that has ended, with its files."""
    row = _job(call)
    if row.state in ENDED:
        call.jobs.table.forget(call.owner, row.id)
        return Answer(204)
    stopped = call.jobs.stop(call.owner, row.id)
    if stopped is None:
        return Answer(204)
    return Answer(200 if stopped.state in ENDED else 202, job_body(call, stopped))


def job_result(call: Call) -> Answer:
    """What came of a job that is done."""
    row = _job(call)
    if row.state != "done":
        ends = {"failed": f": {call.jobs.why(row)}" if row.state == "failed" else "", "stopped": "; ask for it anew"}
        why = ends.get(row.state, "; wait for its end (events)")
        code = row.state if row.state in ENDED else "not_ended"
        raise Refusal(409, code, f"a job that is done has a result, but this one is {row.state}{why}")
    files = call.jobs.belongings.page(call.owner, 200, job=row.id)
    body = {"job": row.id, "kind": row.kind, "result": call.jobs.result(row)}
    return tagged(call, {**body, "artefacts": [file_body(call, file) for file in files]})


def job_events(call: Call) -> Answer:
    """The job's events from a number on, as they come."""
    row = _job(call)
    given = call.headers.get("last-event-id", call.query.get("after", "0"))
    if not re.fullmatch(r"[0-9]{1,12}", given):
        raise Refusal(400, "malformed", "Last-Event-ID is the number of an event, but got something else")
    return Answer(200, stream=(row.id, int(given)), media_type="text/event-stream")


# files ----------------------------------------------------------------------------------------------------------------
def file_body(call: Call, file: Belonging) -> dict[str, Any]:
    """A file as it is shown."""
    return {
        "id": file.id, "name": file.name, "media_type": file.media_type, "size": file.size, "digest": file.digest,
        "job": file.job_id, "created_at": file.created_at.isoformat(), "expires_at": _at(file.expires_at),
        "href": f"{call.base}/artefacts/{file.id}",
    }  # fmt: skip


def file_list(call: Call) -> Answer:
    """One page of files, the newest first."""
    limit = int(call.query.get("limit", PAGE))
    rows = call.jobs.belongings.page(call.owner, limit + 1, _after(call), job=call.query.get("job"))
    return _page(call, "artefacts", [file_body(call, row) for row in rows[:limit]], rows, limit)


def _file(call: Call) -> Belonging:
    found = call.jobs.belongings.get(call.owner, call.path["id"])
    if found is None:
        raise Refusal(404, "not_found", "there is no such artefact, or it is somebody else's, or it has expired")
    return found


def file_get(call: Call) -> Answer:
    """The content of a file; never something that a browser shows or runs."""
    file = _file(call)
    tag = f'"{file.digest}"'
    if (same := matched(call, tag)) is not None:
        return same
    content = call.jobs.belongings.read(call.owner, file.id)
    if content is None:
        raise Refusal(404, "not_found", "the artefact has just been deleted")
    plain = _SAFE.sub("_", file.name).strip("._")[:100] or "file"
    headers = {
        "ETag": tag, "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file.name, safe='')}",
    }  # fmt: skip
    return Answer(200, content, headers, media_type="application/octet-stream")


def file_delete(call: Call) -> Answer:
    """Delete a file."""
    call.jobs.belongings.forget(call.owner, _file(call).id)
    return Answer(204)


def upload(call: Call) -> Answer:
    """Take a model: the body itself, or the one file of a form; ``name`` is kept as text."""
    call.scope.require("upload")
    name, content = _uploaded(call)
    call.scope.within("upload_bytes", len(content))
    _has_room(call, len(content))
    kind = check_upload(content)
    file = call.jobs.belongings.keep(call.owner, text_of(name, 120).strip() or "model", kind, content)
    return Answer(201, file_body(call, file), {"Location": f"{call.base}/artefacts/{file.id}"})


def keep(call: Call) -> Answer:
    """Keep what somebody made in an app or a notebook, as JSON; what had the name before goes."""
    if not call.jobs.belongings.consented(call.owner):
        told = "guests keep nothing; sign in with a name" if call.person.provider == "guest" else _AGREE
        raise ConsentError(f"this server keeps your work only where you have agreed to it; {told}")
    request = call.read("KeepRequest")
    content = json.dumps(request["content"], ensure_ascii=False, indent=1).encode()
    call.scope.within("artefact_bytes", len(content))
    files, name = call.jobs.belongings, f"{request['name']}.json"
    _has_room(call, len(content))
    before = files.newest(call.owner, name)
    same = before is not None and before.job_id is None and before.media_type == JSON
    if not same and files.kept(call.owner, JSON) >= KEPT:
        raise Refusal(413, "too_much", f"a person keeps at most {KEPT} things, and you do; delete some on your account")
    file = call.jobs.belongings.keep(call.owner, name, JSON, content)
    if before is not None and same:
        files.forget(call.owner, before.id)
    return Answer(201, file_body(call, file), {"Location": f"{call.base}/artefacts/{file.id}"})


def _has_room(call: Call, size: int) -> None:
    """Refuse what is more than one person may keep.

    Raises:
        Refusal: 413.
    """
    most = call.jobs.settings.belongings_bytes
    if call.jobs.belongings.bytes_of(call.owner) + size > most:
        raise Refusal(413, "too_much", f"a person keeps at most {most:,} bytes (belongings_bytes); delete some first")


def _uploaded(call: Call) -> tuple[str, bytes]:
    """(name, content) of the body."""
    kind, _, options = call.headers.get("content-type", "").partition(";")
    if kind.strip().lower() == "application/octet-stream":
        return call.query.get("name", "model"), call.body
    if kind.strip().lower() != "multipart/form-data":
        raise Refusal(
            415, "wrong_type", f"an upload is application/octet-stream or multipart/form-data, but got {kind!r:.60}"
        )
    from tornado.httputil import HTTPFile, HTTPInputError, parse_multipart_form_data

    boundary = re.search(r'boundary="?([^";]{1,100})"?', options)
    files: dict[str, list[HTTPFile]] = {}
    try:
        parse_multipart_form_data((boundary[1] if boundary else "").encode(), call.body, {}, files)
    except (HTTPInputError, ValueError) as error:
        raise Refusal(400, "malformed", "the form cannot be read; send it as browsers do") from error
    sent = [one for several in files.values() for one in several]
    if len(sent) != 1:
        raise Refusal(400, "malformed", f"an upload has one file, but the form has {len(sent)}")
    return call.query.get("name", sent[0].filename), sent[0].body
