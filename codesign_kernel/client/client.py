"""The client of a gateway's REST API, and the jobs that it hands in."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from codesign_kernel.client.answers import AGAIN, ATTEMPTS, TIMEOUT_S, checked, events_of, pause_s
from codesign_kernel.errors import InvalidInputError, MissingPackageError, ServiceError

if TYPE_CHECKING:
    import httpx

#: Names the socket of the broker of the kernel that this runs in.
VARIABLE = "CODESIGN_BROKER"
ENDED = ("done", "failed", "stopped")
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Job:
    """Work that a gateway does.

    Attributes:
        id: its name. kind: "profile", "evaluate", "explore", "optimize", "generate", "cosimulate".
        state: "queued", "running", "done", "failed" or "stopped", when it was asked last.
        told: all that the gateway said then.
    """

    client: Client = field(repr=False)
    id: str
    kind: str
    state: str
    told: Mapping[str, Any] = field(repr=False)

    def refresh(self) -> Job:
        """The job as it is now."""
        return self.client.job(self.id)

    def events(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """Its steps as they come, each with its ``number``, from behind number ``after`` to its end.

        A connection that breaks is made again, and goes on where it was.

        Raises:
            ServiceError: there is no such job, or the gateway cannot be reached.
        """
        return self.client._events(self.id, after)

    def wait(self, progress: Progress | None = None, timeout_s: float | None = None) -> Job:
        """The job when it has ended; ``progress`` is called as ``progress(done, message)``, done from 0 to 1.

        Raises:
            ServiceError: it failed, or has not ended in ``timeout_s`` seconds.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        for event in self.client._events(self.id, 0, until):
            if progress is not None:
                progress(float(event.get("done", 0.0)), str(event.get("message", "")))
        found = self.refresh()
        if found.state == "failed":
            raise ServiceError(f"the job failed: {found.told['error']}", 0, "failed")
        if found.state not in ENDED:
            raise ServiceError(f"the job has not ended in {timeout_s:g} s; wait again, or stop it", 0, "timeout")
        return found

    def result(self, progress: Progress | None = None, timeout_s: float | None = None) -> dict[str, Any]:
        """What came of it, when it has ended: plain data. Its files are :meth:`artefacts`.

        Raises:
            ServiceError: it failed or was stopped.
        """
        if self.state != "done":
            self.wait(progress, timeout_s)
        found: dict[str, Any] = self.client._json("GET", f"jobs/{self.id}/result")["result"]
        return found

    def artefacts(self) -> list[dict[str, Any]]:
        """The files that it made: id, name, size, digest (sha256)..."""
        found: list[dict[str, Any]] = self.client._json("GET", f"jobs/{self.id}/result")["artefacts"]
        return found

    def stop(self) -> Job:
        """End it; one that has ended stays as it is."""
        now = self.refresh()
        if now.state in ENDED:
            return now
        self.client._send("DELETE", f"jobs/{self.id}")
        return self.refresh()


class Client:
    """A gateway, spoken to over HTTP, or over the socket of a kernel's broker.

    What fails for a moment (429, 503, a lost connection) is asked again, as the gateway says when. A job is handed in
    under a key of its own, so that it runs once, however often it is asked for.

        >>> import codesign_kernel as ck
        >>> client = ck.Client("http://127.0.0.1:8866", token)                             # doctest: +SKIP
        >>> job = client.evaluate("cnn", [{"rows": 8, "cols": 8}])                         # doctest: +SKIP
        >>> job.result()["designs"][0]["latency_cycle"]                                    # doctest: +SKIP
        2408

    Args:
        url: of the gateway, as it says at start; or ``unix:PATH``, the socket of a broker.
        token: an API token; a broker needs none.
        timeout_s: for one request.

    Raises:
        InvalidInputError: no such URL; a token would go over the network in the clear.
        MissingPackageError: httpx is not installed.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingPackageError(
                "ck.Client speaks through httpx, which is not installed; pip install 'codesign-playground[serve]'"
            ) from error
        self._httpx = httpx
        transport = None
        if url.startswith("unix:"):
            transport, base = httpx.HTTPTransport(uds=url.removeprefix("unix:")), "http://broker"
        else:
            base = url.split("?")[0].rstrip("/")
            parts = urlsplit(base)
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise InvalidInputError(f"a gateway's URL begins with http:// or https://, but got {url!r:.60}")
            here = parts.hostname in ("127.0.0.1", "::1", "localhost")
            if token and parts.scheme == "http" and not here:
                raise InvalidInputError(
                    f"a token is sent to this machine or through TLS, but {base[:80]} is neither; write https://"
                )
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._http = httpx.Client(
            base_url=f"{base}/api/v1/",
            headers=headers,
            timeout=timeout_s,
            transport=transport,
            trust_env=False,
            verify=_trusted(httpx) if base.startswith("https:") else True,
        )
        self._base = base

    @classmethod
    def here(cls) -> Client | None:
        """The gateway that this kernel belongs to; ``None`` in a notebook of one's own."""
        path = os.environ.get(VARIABLE)
        return cls(f"unix:{path}") if path else None

    def __repr__(self) -> str:
        return f"Client({self._base!r})"  # never the token

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    # what there is ---------------------------------------------------------------------------------------------------
    def me(self) -> dict[str, Any]:
        """Who the token is, and the scope: what may be done."""
        return self._json("GET", "me")

    def models(self) -> list[dict[str, Any]]:
        """Networks by name, with their MACs and parameters."""
        found: list[dict[str, Any]] = self._json("GET", "models")["models"]
        return found

    def templates(self) -> list[dict[str, Any]]:
        """Machines by name."""
        found: list[dict[str, Any]] = self._json("GET", "templates")["templates"]
        return found

    # jobs ------------------------------------------------------------------------------------------------------------
    def profile(self, model: str | Path, *, name: str | None = None, key: str | None = None) -> Job:
        """Count the work of a network: a name of :meth:`models`, or a file (.pt2, .onnx), which is uploaded.

        Raises:
            ServiceError: the gateway refuses it; ``status`` and ``code`` say how, as for every method here.
        """
        given = {} if name is None else {"name": name}
        if isinstance(model, Path) or Path(model).suffix in (".pt2", ".onnx"):
            return self._submit("profiles", {"upload": self.upload(model)["id"], **given}, key)
        return self._submit("profiles", {"model": model, **given}, key)

    def evaluate(self, network: str, designs: Sequence[Mapping[str, Any]], *, key: str | None = None) -> Job:
        """What each design takes for one inference: fields of :class:`Accelerator`, or ``{"template": name}``."""
        return self._submit("evaluations", {"network": network, "designs": [dict(one) for one in designs]}, key)

    def explore(self, network: str, space: Any = "default", *, key: str | None = None, **given: Any) -> Job:
        """The best compromises of a space: "default", "large", "spatial", or the choices for each field.

        ``given``: objectives, constraints, sampler, budget, seed; ``workers``, among which the gateway spreads it;
        ``name``, with which it goes on where it was.
        """
        if isinstance(space, Mapping):
            space = _listed(space)
        return self._submit("explorations", {"network": network, "space": space, **given}, key)

    def optimize(self, network: str = "cnn", *, key: str | None = None, **given: Any) -> Job:
        """A network that learns digits and its accelerator, chosen together: the front of accuracy against costs.

        ``given``: space (the choices for each field), objectives, constraints, budget (networks to train), epochs and
        seed of the training; ``name``, with which it goes on where it was.
        """
        if isinstance(given.get("space"), Mapping):
            given["space"] = _listed(given["space"])
        return self._submit("optimizations", {"network": network, **given}, key)

    def generate(self, design: Mapping[str, Any], *, key: str | None = None) -> Job:
        """The RTL of a design; :meth:`Job.artefacts` has its zip."""
        return self._submit("rtl", {"design": dict(design)}, key)

    def cosimulate(
        self, design: Mapping[str, Any], network: str = "cnn", *, key: str | None = None, **given: Any
    ) -> Job:
        """A network on the RTL of a design: whether bits and cycles are equal.

        ``given``: vectors (inputs), simulator, epochs and seed of the training.
        """
        return self._submit("cosimulations", {"design": dict(design), "network": network, **given}, key)

    def jobs(self, *, kind: str | None = None, state: str | None = None, limit: int = 50) -> Iterator[Job]:
        """One's jobs, the newest first; pages are asked for as they are needed."""
        wanted = {"kind": kind, "state": state, "limit": limit}
        for told in self._pages("jobs", {name: value for name, value in wanted.items() if value is not None}):
            yield self._job(told)

    def job(self, job: str) -> Job:
        """One job by its id."""
        return self._job(self._json("GET", f"jobs/{_id(job)}"))

    # files -----------------------------------------------------------------------------------------------------------
    def upload(self, path: str | Path) -> dict[str, Any]:
        """Upload a model: an exported program (``torch.export.save``) or ONNX; its id is for :meth:`profile`."""
        path = Path(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}") from error
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._send("POST", "uploads", params={"name": path.name[:120]}, content=content, headers=headers)
        found: dict[str, Any] = answer.json()
        return found

    def keep(self, name: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Keep plain data among one's artefacts, as NAME.json, in the place of what had that name.

        Raises:
            ServiceError: code ``consent``: the person has not agreed that their work is kept.
        """
        body = json.dumps({"name": name, "content": content}, allow_nan=False).encode()
        found: dict[str, Any] = self._send(
            "POST", "artefacts", content=body, headers={"Content-Type": "application/json"}
        ).json()
        return found

    def artefacts(self) -> Iterator[dict[str, Any]]:
        """One's uploads and results, the newest first."""
        return self._pages("artefacts", {})

    def download(self, artefact: str) -> bytes:
        """The content of an artefact, by its id."""
        return self._send("GET", f"artefacts/{_id(artefact)}").content

    def delete(self, artefact: str) -> None:
        """Delete an artefact."""
        self._send("DELETE", f"artefacts/{_id(artefact)}")

    # how -------------------------------------------------------------------------------------------------------------
    def admin(self, method: str, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What the gateway answers below ``admin/`` to administrators; see docs/operate.md.

        Raises:
            ServiceError: it refuses: only administrators may ask.
        """
        return self._json(method, f"admin/{path}", params=params or {})

    def _submit(self, path: str, request: Mapping[str, Any], key: str | None) -> Job:
        headers = {"Idempotency-Key": key or uuid.uuid4().hex, "Content-Type": "application/json"}
        content = json.dumps(request).encode()
        return self._job(self._send("POST", path, content=content, headers=headers).json())

    def _job(self, told: Mapping[str, Any]) -> Job:
        return Job(self, told["id"], told["kind"], told["state"], told)

    def _pages(self, path: str, params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        found = self._json("GET", path, params=params)
        while True:
            yield from found[path]
            if found["next"] is None:
                return
            after = self._httpx.URL(found["next"]).params["after"]
            found = self._json("GET", path, params={**params, "after": after})

    def _json(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._send(method, path, **given).json()
        return found

    def _send(self, method: str, path: str, **given: Any) -> httpx.Response:
        """The answer, asked for again where that helps.

        Raises:
            ServiceError: the gateway refuses, or cannot be reached.
        """
        for attempt in range(ATTEMPTS):
            try:
                answer = self._http.request(method, path, **given)
            except self._httpx.TransportError as error:
                if attempt + 1 == ATTEMPTS:
                    raise ServiceError(
                        f"the gateway {self._base} cannot be reached ({error or type(error).__name__}); is it running?"
                    ) from error
                time.sleep(pause_s(attempt, None))
                continue
            if answer.status_code not in AGAIN or attempt + 1 == ATTEMPTS:
                return checked(answer)
            time.sleep(pause_s(attempt, answer.headers.get("Retry-After")))
        raise AssertionError("every attempt returns or raises")

    def _events(self, job: str, after: int, until: float | None = None) -> Iterator[dict[str, Any]]:
        attempt = 0
        while until is None or time.monotonic() < until:
            read_s = 40.0 if until is None else max(0.05, min(40.0, until - time.monotonic()))
            timeout = self._httpx.Timeout(TIMEOUT_S, read=read_s)
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            try:
                with self._http.stream("GET", f"jobs/{_id(job)}/events", headers=headers, timeout=timeout) as answer:
                    if answer.status_code != 200:
                        answer.read()
                        if answer.status_code not in AGAIN or attempt + 1 >= ATTEMPTS:
                            checked(answer)
                    else:
                        attempt = 0
                        for kind, number, data in events_of(answer.iter_lines()):
                            if kind == "end":
                                return
                            after = number
                            yield {"number": number, **data}
                            if until is not None and time.monotonic() > until:
                                return
            except self._httpx.TransportError as error:
                if attempt + 1 >= ATTEMPTS:
                    raise ServiceError(f"the gateway {self._base} cannot be reached; is it running?") from error
            attempt += 1
            if until is None or time.monotonic() < until:
                time.sleep(min(pause_s(attempt - 1, None), 2.0))


def _trusted(httpx: Any) -> Any:
    """Certificates that are believed: httpx's own, the machine's, and those of SSL_CERT_FILE."""
    found = httpx.create_ssl_context(trust_env=False)
    found.load_default_certs()
    return found


def _listed(space: Mapping[str, Any]) -> dict[str, Any]:
    """The choices of a space as JSON has them."""
    return {field: [*one] if isinstance(one, tuple | range) else one for field, one in space.items()}


def _id(text: str) -> str:
    """A name in a path: nothing that leads elsewhere."""
    if not text.isalnum():
        raise InvalidInputError(f"an id has letters and digits, but got {text!r:.60}")
    return text
