"""One request and its answer, apart from how they travel: the gateway and a kernel's broker share all that follows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign_kernel.scopes import ROLES, Scope, read_scope
from codesign_kernel.server.api.reading import Refusal, check_schema, read_json
from codesign_kernel.store.people import Person

if TYPE_CHECKING:
    from codesign_kernel.server.jobs import Jobs

JSON = "application/json"
_DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True)
class Call:
    """A request.

    Attributes:
        jobs: the job service. apps: the scopes of the apps.
        person: who asks. scope: what they may do here.
        base: the path of the API, without a slash at its end.
        path: the parts of the path that are names. query: each once, checked.
        headers: with names in lower case. body: as it came. trace: that a job of the request goes on in.
    """

    jobs: Jobs
    apps: Mapping[str, Scope]
    person: Person
    scope: Scope
    base: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """All that the request may see is filed under it."""
        return self.person.subject

    def read(self, schema: str) -> Any:
        """The body, checked against a schema.

        Raises:
            Refusal: 400, 413, 415 or 422.
        """
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise Refusal(415, "wrong_type", f"a request is {JSON} (header Content-Type), but got {kind!r:.60}")
        value = read_json(self.body)
        check_schema(schema, value)
        return value


@dataclass(frozen=True)
class Answer:
    """What is sent back.

    Attributes:
        status: of HTTP. body: plain data, sent as JSON; bytes go as they are.
        headers: besides Content-Type. media_type: of ``body``.
        wait: (job, seconds): wait so long for the job's end, then ask for the answer again.
        stream: (job, number): events of the job behind that number, as they come.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON
    wait: tuple[str, float] | None = None
    stream: tuple[str, int] | None = None


def etag_of(content: bytes) -> str:
    """A strong ETag."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def tagged(call: Call, body: Any) -> Answer:
    """The answer with its ETag; 304 where the asker has it."""
    content = json.dumps(body, allow_nan=False).encode()
    tag = etag_of(content)
    return matched(call, tag) or Answer(200, content, {"ETag": tag})


def matched(call: Call, tag: str) -> Answer | None:
    """304 where If-None-Match names the tag."""
    given = [one.strip().removeprefix("W/") for one in call.headers.get("if-none-match", "").split(",")]
    return Answer(304, None, {"ETag": tag}) if tag in given or given == ["*"] else None


@cache
def _of_role(role: str) -> Scope:
    return read_scope(_DATA / f"api_{role if role in ROLES else ROLES[0]}.toml")


def scope_for(person: Person, workers: int) -> Scope:
    """What somebody may do by the API: their role's scope, cut down to what they (or their token) may, and to the
    ``workers`` that this gateway has."""
    whole = _of_role(person.role)
    return whole.narrowed(filter(person.may, whole.capabilities), workers)
