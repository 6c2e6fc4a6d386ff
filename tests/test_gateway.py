"""Attacks on a running gateway, by HTTP and by the websocket of a kernel. It stays up, and serves others meanwhile."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway import Gate
from test_gateway_rules import ALL_CHANNELS, OTHERS, binary, legacy
from visits import PATIENCE_S, client, closed, code_after, head_of, joined, opened, serves, until_closed, visit
from websockets.exceptions import ConnectionClosed, InvalidStatus

from codesign_kernel.server.app import BODY_S
from codesign_kernel.server.frames import BINARY

__all__ = ["visit"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_nothing_but_health_and_sign_in_is_open(gate: Gate, visit: tuple[Any, str]) -> None:
    kernel = visit[1]
    closed_paths = (
        "", "apps/slider", f"api/kernels/{kernel}", "api/kernels", "voila/static/voila.js", "health/detail",
        "voila/templates/codesign/static/voila-style.js", "pictures/slider.png", "api/v1/jobs", "api/v1/me",
        "voila/labextensions/anywidget/static/2.3dbf81c0.js",
    )  # fmt: skip
    with client(gate) as http:
        for path in closed_paths:
            answer = http.get(path)
            assert answer.status_code in (302, 401, 403, 404), f"{path}: {answer.status_code}"
            assert kernel not in answer.text
        assert http.get("health").status_code == 200
        assert http.post(f"voila/api/shutdown/{kernel}").status_code in (401, 403)
        assert http.delete(f"api/kernels/{kernel}").status_code in (401, 403, 405)


def test_what_jupyter_and_voila_serve_besides_is_not_there(gate: Gate, visit: tuple[Any, str]) -> None:
    http, kernel = visit
    for path in (
        "voila/files/slider.ipynb", "voila/files/slider.toml", "voila/render/slider.ipynb", "voila/tree",
        "api/contents",
        "api/contents/slider.ipynb", "api/kernelspecs", "api/sessions", "api/terminals", "api/config/notebook",
        "api/kernels", f"api/kernels/{kernel}/interrupt", f"api/kernels/{kernel}/restart", "voila/api/contents/",
        f"voila/execution/{kernel}", f"voila/query/{kernel}", "files/slider.ipynb", "nbconvert/html/slider.ipynb",
        "apps/slider/", "apps/slider.ipynb", "apps/Slider", "apps/none", "metrics/", "voila/static/", "voila/static",
        "pictures/slider.toml", "pictures/", "api/shutdown",
    ):  # fmt: skip
        for method in ("GET", "POST", "PUT", "DELETE"):
            answer = http.request(method, path, headers={"X-XSRFToken": http.cookies.get("_xsrf", "")})
            assert answer.status_code in (403, 404, 405), f"{method} {path}: {answer.status_code}"


def raw(gate: Gate, head: str, body: bytes = b"", timeout_s: float = PATIENCE_S) -> bytes:
    """What is answered to a request that is written byte for byte."""
    with socket.create_connection(("127.0.0.1", gate.told["port"]), timeout=timeout_s) as line:
        parts = []
        with contextlib.suppress(ConnectionError):  # closed while there was more to send or to read
            line.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
            while part := line.recv(65536):
                parts.append(part)
    return b"".join(parts)


#: A request whose body does not come.
HALF_BODY = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\na"


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "path",
    [
        "/voila/static/../../../../../../../../etc/passwd",
        "/voila/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/voila/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/voila/static/%252e%252e/%252e%252e/etc/passwd",
        "/voila/static//etc/passwd",
        "/voila/static/..\\..\\etc\\passwd",
        "/voila/templates/codesign/static/../conf.json",
        "/voila/templates/../../etc/static/passwd",
        "/voila/labextensions/anywidget/../../../../../etc/passwd",
        "/pictures/../slider.toml",
        "/pictures/..%2fslider.ipynb",
        "/apps/..%2f..%2fetc%2fpasswd",
        "/apps/slider%00.png",
        "//evil.example/%2f..",
    ],
)
def test_no_path_leads_out(gate: Gate, visit: tuple[Any, str], path: str) -> None:
    answer = raw(gate, head_of(gate, visit[0], path))
    assert status_of(answer) in (400, 404), answer[:300]
    assert b"root:" not in answer
    assert b"capabilities" not in answer


def test_another_name_for_this_machine_is_not_answered_to(gate: Gate, visit: tuple[Any, str]) -> None:
    """DNS rebinding: the page of evil.example has our address now, and the visitor's browser sends its cookies."""
    for host in ("evil.example", "evil.example:80", f"127.0.0.1.evil.example:{gate.told['port']}", "10.9.8.7"):
        assert status_of(raw(gate, head_of(gate, visit[0], "/apps/slider", host=host))) == 404, host
    assert status_of(raw(gate, head_of(gate, visit[0], "/health", host="localhost"))) == 200


def test_every_answer_tells_the_browser_what_it_may_do(gate: Gate, visit: tuple[Any, str]) -> None:
    http, kernel = visit
    for path in ("apps/none", f"api/kernels/{kernel}", "voila/static/voila.js", "health", "apps/console"):
        answer = http.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src" in policy, path
        assert "frame-ancestors 'none'" in policy, path
        assert "http:" not in policy
        assert "*" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "camera=()" in answer.headers["Permissions-Policy"]
        assert "Server" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "ornado" not in answer.text if path != "voila/static/voila.js" else True


def test_a_visitor_opens_no_app_of_another_role(gate: Gate, visit: tuple[Any, str]) -> None:
    assert visit[0].get("apps/console").status_code == 403


def test_a_picture_or_a_frame_starts_no_kernel(gate: Gate, visit: tuple[Any, str]) -> None:
    for destination in ("image", "iframe", "empty", "script"):
        assert visit[0].get("apps/slider", headers={"Sec-Fetch-Dest": destination}).status_code == 403
    assert visit[0].get("apps/slider", headers={"Sec-Purpose": "prefetch"}).status_code == 403


def test_another_persons_kernel_is_not_there(gate: Gate, visit: tuple[Any, str]) -> None:
    """Its id is known here; that helps nobody but its owner, not even an administrator by this way."""
    _, kernel = visit
    for name, role in (("mallory", "user"), ("root", "admin")):
        with client(gate, name, role) as http:
            http.get("voila/static/voila.js")
            assert http.get(f"api/kernels/{kernel}").status_code == 404
            http.cookies.set("_xsrf", "x")
            answer = http.post(f"voila/api/shutdown/{kernel}", headers={"X-XSRFToken": "x"})
            assert answer.status_code == 404, answer.text
            with pytest.raises(InvalidStatus, match="404"):
                joined(gate, http, kernel)
    assert visit[0].get(f"api/kernels/{kernel}").status_code == 200


def test_a_page_of_another_site_cannot_connect(gate: Gate, visit: tuple[Any, str]) -> None:
    http, kernel = visit
    port = gate.told["port"]
    for origin in ("http://evil.example", "null", f"http://localhost:{port}", f"https://127.0.0.1:{port}", None):
        with pytest.raises(InvalidStatus, match="403"):
            joined(gate, http, kernel, origin=origin)


def test_a_form_of_another_site_cannot_end_a_kernel(gate: Gate, visit: tuple[Any, str]) -> None:
    http, kernel = visit
    xsrf = http.cookies.get("_xsrf")
    tries: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, {}),
        ({"_xsrf": "guess"}, {}),
        ({"_xsrf": xsrf}, {"Origin": "http://evil.example"}),
        ({"_xsrf": xsrf}, {"Origin": "null"}),
        ({"_xsrf": xsrf}, {"Sec-Fetch-Site": "cross-site"}),
    ]
    for form, headers in tries:
        answer = http.post(f"voila/api/shutdown/{kernel}", data=form, headers=headers)
        assert answer.status_code == 403, (form, headers)
    assert http.get(f"api/kernels/{kernel}").status_code == 200


def test_no_message_runs_code(gate: Gate, visit: tuple[Any, str]) -> None:
    """Each message that a kernel knows beyond the widgets', on the channels, in both forms: the socket closes."""
    http, kernel = visit
    for number, kind in enumerate(OTHERS):
        channel = ALL_CHANNELS[number % 3]
        if number % 2:
            frame, protocols = legacy(kind, {"code": "open('x', 'w')", "silent": False}, channel), None
        else:
            frame, protocols = binary(kind, {"code": "open('x', 'w')", "silent": False}, channel), [BINARY]
        assert code_after(gate, http, kernel, frame, subprotocols=protocols) == 1008, (kind, channel)
    assert serves(gate)


def test_no_foreign_comm_opens_and_the_widgets_own_does(gate: Gate, visit: tuple[Any, str]) -> None:
    http, kernel = visit
    for target in ("jupyter.widget", "evil", ""):
        content = {"target_name": target, "comm_id": "1", "data": {}}
        assert code_after(gate, http, kernel, binary("comm_open", content)) == 1008
    control = binary("comm_open", {"target_name": "jupyter.widget.control", "comm_id": "c", "data": {}})
    asking = binary("comm_msg", {"comm_id": "c", "data": {"method": "request_states"}})
    with joined(gate, http, kernel) as ws:
        ws.send(control)
        ws.send(asking)
        seen = b""
        while b"update_states" not in seen:
            seen = bytes(ws.recv(timeout=PATIENCE_S))
        assert b"IntSliderModel" in seen


def test_frames_that_are_none_close_the_socket_with_a_code(gate: Gate, visit: tuple[Any, str]) -> None:
    http, kernel = visit
    for frame in (b"", b"\xff" * 100, binary("comm_msg")[:-2], "text"):
        assert code_after(gate, http, kernel, frame) == 1007, frame
    for text in ("{", "[" * 50_000, "{}"):
        assert code_after(gate, http, kernel, text, subprotocols=None) == 1007
    with joined(gate, http, kernel) as ws:
        # the head of a frame of 3 MiB says enough; what comes behind it could cost the answer, as the socket is closed
        ws.socket.sendall(b"\x82\xff" + (3 << 20).to_bytes(8) + bytes(4))
        until_closed(ws)
        assert ws.close_code == 1009
    assert serves(gate)
    assert http.get(f"api/kernels/{kernel}").status_code == 200


def too_fast(gate: Gate) -> float:
    """How often this gateway has refused somebody for a rate."""
    text = httpx.get(f"{gate.url}metrics", timeout=PATIENCE_S, trust_env=False).text
    found = re.search(r'^codesign_refusals_total\{why="rate"\} (\S+)$', text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def test_a_flood_of_messages_closes_the_socket(gate: Gate, visit: tuple[Any, str]) -> None:
    http, kernel = visit
    before = too_fast(gate)
    frame = binary("comm_info_request", {"target_name": "none"})
    with joined(gate, http, kernel) as ws:
        # more come free every second: so many that no machine is too slow to send too many
        with contextlib.suppress(ConnectionClosed):
            for sent in range(60_000):
                ws.send(frame)
                if sent % 50 == 0:  # who never stops sending never hears that the socket is closed
                    time.sleep(0.001)
        until_closed(ws)
        assert ws.close_code == 1008
    assert too_fast(gate) == before + 1, "what came after the socket was closed was read all the same"
    assert serves(gate)


def test_an_error_in_a_kernel_tells_the_page_no_path(gate: Gate, visit: tuple[Any, str]) -> None:
    """A message that a widget cannot take raises in the kernel: the page gets neither trace nor path."""
    http, kernel = visit
    with joined(gate, http, kernel) as ws:
        ws.send(binary("comm_open", {"target_name": "jupyter.widget.control", "comm_id": "e", "data": {}}))
        ws.send(binary("comm_msg", {"comm_id": "e", "data": {"method": "request_states"}}))
        state = b""
        while b"update_states" not in state:
            state = bytes(ws.recv(timeout=PATIENCE_S))
        slider = re.search(rb'"([0-9a-f]{32})": ?\{"model_name": ?"IntSliderModel"', state)
        assert slider is not None
        seen = b""
        for value in ({"no": "number"}, 7):  # what comes of the first is there before the answer to the second
            data = {"method": "update", "state": {"value": value}, "buffer_paths": []}
            ws.send(binary("comm_msg", {"comm_id": slider[1].decode(), "data": data}))
        while b"size 7<" not in seen:
            seen += bytes(ws.recv(timeout=PATIENCE_S))
    assert b"Traceback" not in seen
    assert b"/site-packages/" not in seen
    assert b"codesign_kernel" not in seen


def test_what_is_too_large_is_refused_before_it_is_read(gate: Gate, visit: tuple[Any, str]) -> None:
    head = head_of(gate, visit[0], "/api/v1/profiles", "POST", Content_Length=str(1 << 30))
    # there is an answer: whoever waits for the body, and gets none, closes the connection without one
    assert status_of(raw(gate, head)) in (400, 403, 413)
    long = raw(gate, head_of(gate, visit[0], "/health", X_Long="x" * (1 << 20)))
    assert long == b"" or status_of(long) in (400, 431)
    assert serves(gate)


def test_half_requests_on_many_connections_keep_nobody_out(gate: Gate, visit: tuple[Any, str]) -> None:
    """Slow requests: a hundred that never end their head and some that never send their body; others are served."""
    with contextlib.ExitStack() as lines:
        for number in range(110):
            line = socket.create_connection(("127.0.0.1", gate.told["port"]), timeout=PATIENCE_S)
            lines.enter_context(line).sendall(
                HALF_BODY if number % 3 == 0 else b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: "
            )
        for _ in range(5):
            assert serves(gate)
            assert visit[0].get(f"api/kernels/{visit[1]}").status_code == 200
        with client(gate, "patient") as http:
            closed(http, opened(http))
    assert serves(gate)


def test_one_address_has_only_so_many_connections(gate: Gate) -> None:
    """Without an end, one address could hold every file descriptor of the server."""
    lines: list[socket.socket] = []
    with contextlib.ExitStack() as opened_:
        for _ in range(140):
            line = socket.create_connection(("127.0.0.1", gate.told["port"]), timeout=PATIENCE_S)
            lines.append(opened_.enter_context(line))
            with contextlib.suppress(ConnectionError):  # refused already
                line.sendall(HALF_BODY)
        # those at their end; the others are waited for, and closed only after BODY_S
        deadline, refused = time.monotonic() + BODY_S * 2 / 3, 0
        while refused < 10 and time.monotonic() < deadline:
            time.sleep(0.1)
            refused = len(select.select(lines, [], [], 0)[0])
        assert refused >= 10
    deadline, again = time.monotonic() + PATIENCE_S, False
    while not again and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):  # it has not seen yet that they are closed
            again = serves(gate)
        time.sleep(0.1)
    assert again


def test_the_log_has_no_secret_and_no_page_has_a_path(gate: Gate, visit: tuple[Any, str]) -> None:
    secret = next(value for name, value in visit[0].cookies.items() if name.startswith("codesign"))
    assert visit[0].post(f"voila/api/shutdown/{visit[1]}").status_code == 403  # something that is refused
    with client(gate) as http:
        assert http.get("health").status_code == 200  # what came before it is in the log then
    text = gate.log.read_text(errors="replace")
    assert gate.token not in text
    assert secret not in text
    with client(gate) as http:
        assert str(Path.home()) not in http.get("apps/none").text
    whole = text[: text.rindex("\n")].splitlines()  # it is still written to
    events = {json.loads(line)["event"] for line in whole if line.startswith("{")}
    assert {"request", "refused", "kernel"} <= events
