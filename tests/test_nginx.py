"""nginx with ModSecurity, as deploy/nginx has it, in front of a server: what it stops, lets through and hands on."""

from __future__ import annotations

import json
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from cells import until
from certificates import make_certificate

from codesign_kernel.session.doctor import NGINX

pytestmark = [pytest.mark.nginx, pytest.mark.slow]

DEPLOY = Path(__file__).parent.parent / "deploy" / "nginx"
NAME = "codesign.example.org"
#: What somebody may have as a password; in any other field it is an attack.
PASSWORD = "it's; DROP TABLE people; -- <script>alert(1)</script>"
CONFIGURATION = """
load_module /usr/lib/nginx/modules/ngx_http_modsecurity_module.so;
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/codesign.conf;
}}
"""


def listens(path: Path) -> bool:
    """Whether a server answers at a socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(os.fspath(path)) == 0


class Behind(socketserver.ThreadingUnixStreamServer):
    """Stands for the gateway: answers with the headers that reached it, and streams where a job's events are."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(os.fspath(path), Answer)
        #: set by who has read the first event; whether it was set before the second was sent
        self.read, self.was_read = threading.Event(), False


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Behind

    def do_GET(self) -> None:
        """Of http.server."""
        sent = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self.send_response(200)
        if self.path.endswith("/events"):
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"id: 1\n\n")
            self.server.was_read = self.server.read.wait(30)
            self.wfile.write(b"id: 2\n\n")
            return
        body = json.dumps({"headers": {k.lower(): v for k, v in self.headers.items()}, "body": sent}).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Of http.server: nothing."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """nginx's files as they are deployed; only the names of folders and addresses are others: sockets in here."""
    found = Path(tempfile.mkdtemp(prefix="nginx-", dir="/tmp"))
    make_certificate(found / "privkey.pem", found / "fullchain.pem", NAME)
    rules = (DEPLOY / "modsecurity.conf").read_text()
    (found / "modsecurity.conf").write_text(rules.replace("/var/log/nginx", str(found)))
    server = (DEPLOY / "codesign.conf").read_text()
    for there, here in (
        ("/etc/codesign/tls", found), ("/etc/codesign", found), ("/var/log/nginx", found),
        ("127.0.0.1:8866", f"unix:{found}/gateway"), ("listen 80", f"listen unix:{found}/http"),
        ("listen 443", f"listen unix:{found}/https"),
    ):  # fmt: skip
        assert there in server
        server = server.replace(there, str(here))
    lines = [line for line in server.splitlines() if "listen [::]" not in line]
    (found / "codesign.conf").write_text("\n".join(lines))
    user = "user root;" if os.geteuid() == 0 else ""
    (found / "nginx.conf").write_text(CONFIGURATION.format(folder=found, user=user))
    yield found
    shutil.rmtree(found)


@pytest.fixture(scope="module")
def behind(folder: Path) -> Iterator[Behind]:
    with Behind(folder / "gateway") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def client(folder: Path, behind: Behind) -> Iterator[httpx.Client]:
    """A browser at nginx."""
    command = [os.fspath(NGINX["nginx-light"]), "-c", f"{folder}/nginx.conf"]
    tried = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=120)
    assert tried.returncode == 0, tried.stderr
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as nginx:
        try:
            assert until(lambda: listens(folder / "https") or nginx.poll() is not None)
            trusted = ssl.create_default_context(cafile=os.fspath(folder / "fullchain.pem"))
            transport = httpx.HTTPTransport(uds=os.fspath(folder / "https"), verify=trusted)
            with httpx.Client(transport=transport, base_url=f"https://{NAME}", timeout=60) as found:
                yield found
        finally:
            nginx.terminate()


@pytest.mark.parametrize(
    "request_of",
    [
        ("GET", "/?q=<script>alert(1)</script>", {}),
        ("GET", "/?q=1%27%20OR%201=1--%20-", {}),
        ("GET", "/api/v1/jobs?after=../../../../etc/passwd", {}),
        ("POST", "/account/rename", {"data": {"name": PASSWORD}}),
        ("POST", "/api/v1/artefacts", {"json": {"name": "notes", "content": {"text": "x; rm -rf / --no-preserve"}}}),
    ],
    ids=["markup", "sql", "path", "form", "json"],
)
def test_an_obvious_attack_is_stopped(client: httpx.Client, request_of: tuple[str, str, dict[str, Any]]) -> None:
    method, path, given = request_of
    assert client.request(method, path, **given).status_code == 403


@pytest.mark.parametrize(
    "request_of",
    [
        ("GET", "/login?next=%2Fapps%2Fprofiler", {}),
        ("POST", "/login", {"data": {"_xsrf": "2|a1b2|c3d4|1", "name": "ada", "password": PASSWORD, "next": "/"}}),
        ("POST", "/account/password", {"data": {"_xsrf": "2|a1b2|c3d4|1", "old": PASSWORD, "new": f"{PASSWORD}x"}}),
        ("POST", "/account/consent", {"data": {"_xsrf": "2|a1b2|c3d4|1", "purpose": "storage", "answer": "yes"}}),
        ("GET", "/api/v1/jobs?limit=2&after=MjAyNi0xMS0yM1QwNzowMToyMS41NjA5MzQrMDA6MDAgNGVkMTAwMGY3ZTkw", {}),
        ("DELETE", "/api/v1/jobs/4e72a3e6089d4f86a9c7159fc34f3e51", {}),
        ("POST", "/api/v1/uploads?name=my%20net.pt2", {"content": b"PK\x03\x04' OR 1=1 -- <script>\0" * 100_000}),
        ("POST", "/api/v1/evaluations", {"json": {"network": "cnn", "designs": [{"rows": 32, "weight_kib": 512.5}]}}),
        ("POST", "/api/v1/explorations", {"json": {
            "network": "cnn", "space": {"rows": [4, 8], "dataflow": ["ws", "os"]}, "name": "Ada 1.2 - first",
            "objectives": ["latency_ms", "energy_uj"], "constraints": {"area_mm2": [None, 2.5]},
        }}),
    ],
    ids=["login", "sign-in", "password", "consent", "page", "stop", "upload", "evaluate", "explore"],
)  # fmt: skip
def test_normal_use_is_not(client: httpx.Client, request_of: tuple[str, str, dict[str, Any]]) -> None:
    method, path, given = request_of
    binary = {"Content-Type": "application/octet-stream"} if "content" in given else {}
    answer = client.request(
        method, path, headers={"Cookie": "_xsrf=2|a1b2|c3d4|1; codesign-8866=x--y", **binary}, **given
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["body"] == len(answer.request.content)


def test_the_gateway_learns_who_asks_from_nginx_alone(client: httpx.Client, folder: Path) -> None:
    forged = {"X-Forwarded-For": "9.9.9.9", "X-Real-IP": "9.9.9.9", "X-Request-ID": "mine", "Forwarded": "for=9.9.9.9"}
    got = client.get("/health", headers=forged).json()["headers"]
    assert got["x-forwarded-for"] == got["x-real-ip"] == "unix:"
    assert got["x-forwarded-proto"] == "https"
    assert got["host"] == NAME
    assert "forwarded" not in got
    # what the gateway's log has is in nginx's, too
    assert until(lambda: got["x-request-id"] in (folder / "codesign.log").read_text())  # written after the answer
    assert len(got["x-request-id"]) == 32


def test_events_go_out_as_they_come(client: httpx.Client, behind: Behind) -> None:
    with client.stream("GET", "/api/v1/jobs/4e72a3e6089d4f86a9c7159fc34f3e51/events") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "id: 1"
        behind.read.set()
        with suppress(StopIteration):
            assert [next(lines), next(lines)] == ["", "id: 2"]
    assert behind.was_read


def test_what_is_the_operators_is_not_on_the_internet(client: httpx.Client) -> None:
    assert [client.get(path).status_code for path in ("/metrics", "/health/detail")] == [404, 404]
    assert client.get("/health/ready").status_code == 200
