"""``ck.Client`` against the real API: the whole way, what it says when something fails, when it comes back."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from apicases import Served, api, fresh, held
from certificates import make_certificate
from test_upload_checks import model

import codesign_kernel as ck
from codesign_kernel.client import Client, Job
from codesign_kernel.errors import InvalidInputError, ServiceError

__all__ = ["api", "held"]  # fixtures


def test_the_client_walks_the_whole_way(api: Served, tmp_path: Path) -> None:
    seen: list[tuple[float, str]] = []
    with ck.Client(api.url, "ann") as client:
        assert "ann" not in repr(client)
        assert client.me()["name"] == "ann"
        job = client.explore("cnn", {"rows": (4, 8), "cols": 4}, seed=987)
        assert job.result(progress=lambda done, message: seen.append((done, message)))["asked"]["seed"] == 987
        assert seen[-1][0] == 1.0
        assert client.job(job.id).state == "done"
        assert [event["number"] for event in job.events(after=2)] == [3, 4]
        path = tmp_path / "m.onnx"
        path.write_bytes(model())
        assert "upload" in client.profile(path).result()["asked"]
        assert next(client.artefacts())["name"] == "m.onnx"
        assert len({one.id for one in client.jobs(limit=1)}) == 2  # page by page
        assert client.download(next(client.artefacts())["id"]) == model()
        client.delete(next(client.artefacts())["id"])
        with pytest.raises(ServiceError, match="limits macs") as refused:
            client.profile("llama_7b_prefill")
        assert (refused.value.status, refused.value.code) == (403, "scope")
        with pytest.raises(InvalidInputError, match="an id has"):
            client.job("../me")


def test_the_client_says_why_a_job_failed_and_stops_one(held: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held.runner, "answer", lambda job: {"error": {"code": "ScopeError", "message": "limit x"}})
    with ck.Client(held.url, "ann") as client:
        job = client.explore("cnn", **{k: v for k, v in fresh().items() if k == "seed"}, name="a name")
        with pytest.raises(ServiceError, match="has not ended"):
            job.wait(timeout_s=0.1)
        assert job.stop().state in ("stopped", "running", "queued")
        other = client.explore("cnn", seed=55)
        held.runner.hold.set()
        with pytest.raises(ServiceError, match="ScopeError: limit x"):
            other.wait()


def test_the_client_comes_back_when_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After and a lost connection, then the answer; every attempt has the same key."""
    naps: list[float] = []
    keys: list[str] = []
    answers: list[Any] = [httpx.Response(503, headers={"Retry-After": "7"}), httpx.ConnectError("x")]
    answers.append(httpx.Response(202, json={"id": "a", "kind": "profile", "state": "queued"}))

    def send(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    client = Client("http://localhost:1", "t")
    client._http = httpx.Client(base_url="http://localhost:1/api/v1/", transport=httpx.MockTransport(send))
    monkeypatch.setattr("codesign_kernel.client.client.time.sleep", naps.append)
    assert isinstance(client.profile("cnn"), Job)
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert naps[0] >= 7
    client.close()


def test_the_client_refuses_a_token_in_the_clear() -> None:
    with pytest.raises(InvalidInputError, match="https"):
        Client("http://example.org", "secret")
    with pytest.raises(InvalidInputError, match="http://"):
        Client("file:///etc/passwd")


class _Me(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"name": "ada"}')

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


def test_a_certificate_of_ones_own_authority_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_certificate(tmp_path / "key.pem", tmp_path / "certificate.pem", "localhost")
    monkeypatch.setattr("codesign_kernel.client.client.ATTEMPTS", 1)
    with HTTPServer(("127.0.0.1", 0), _Me) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://localhost:{server.server_port}"
        with Client(url, "t") as client, pytest.raises(ServiceError, match="CERTIFICATE_VERIFY_FAILED"):
            client.me()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        with Client(url, "t") as client:
            assert client.me() == {"name": "ada"}
        server.shutdown()


def test_here_is_none_outside_of_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODESIGN_BROKER", raising=False)
    assert Client.here() is None
    monkeypatch.setenv("CODESIGN_BROKER", "/nowhere")
    here = Client.here()
    assert here is not None
    here.close()


def test_the_door_stays_light() -> None:
    code = "import sys, codesign_kernel as ck; ck.Client; assert 'httpx' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
