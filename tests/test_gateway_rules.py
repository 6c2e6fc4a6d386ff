"""The gateway's guards one by one: each refuses an attack, and the same attack passes once the guard is taken out."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("voila")

from jupyter_client.session import Session
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado import httputil

from codesign_kernel.errors import InvalidInputError, ScopeFileError
from codesign_kernel.server.apps import find_apps, without_scope
from codesign_kernel.server.frames import BINARY, CHANNELS, MESSAGES, TARGETS, RefusedFrameError, Rules
from codesign_kernel.server.headers import address_of, host_allowed, origin_allowed, path_allowed
from codesign_kernel.server.rates import Lines, Meter, Rates, address_key
from codesign_kernel.server.settings import Settings
from codesign_kernel.server.websocket import GateConnection

#: Every other message of the protocol that a page could send (Jupyter's messaging specification 5.4).
OTHERS = (
    "execute_request", "inspect_request", "complete_request", "history_request", "is_complete_request",
    "connect_request", "shutdown_request", "interrupt_request", "debug_request", "input_reply",
    "create_subshell_request", "delete_subshell_request", "list_subshell_request", "execute_input", "stream", "status",
)  # fmt: skip
ALL_CHANNELS = ("shell", "control", "stdin", "iopub", "hb")


def message(kind: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    header = {"msg_id": "1", "msg_type": kind, "session": "s", "username": "", "version": "5.4"}
    return {"header": header, "parent_header": {}, "metadata": {"version": "1.0.0"}, "content": content or {}}


def binary(
    kind: str, content: dict[str, Any] | None = None, channel: str = "shell", buffers: tuple[bytes, ...] = ()
) -> bytes:
    """A frame of ``v1.kernel.websocket.jupyter.org``."""
    made = message(kind, content)
    parts = [channel.encode(), *(json.dumps(made[key]).encode() for key in made), *buffers]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return b"".join(n.to_bytes(8, "little") for n in (len(offsets), *offsets)) + b"".join(parts)


def legacy(kind: str, content: dict[str, Any] | None = None, channel: str = "shell") -> str:
    """A frame without a subprotocol."""
    return json.dumps(message(kind, content) | {"channel": channel, "buffers": []})


def legacy_buffers(kind: str, content: dict[str, Any] | None = None, channel: str = "shell") -> bytes:
    """A frame without a subprotocol that has a buffer."""
    text = legacy(kind, content, channel).encode()
    return struct.pack("!III", 2, 12, 12 + len(text)) + text + b"1234"


FORMS = {"binary": (binary, BINARY), "json": (legacy, None), "json with buffers": (legacy_buffers, None)}


def refused(frame: str | bytes, protocol: str | None, rules: Rules | None = None) -> str:
    """Why a frame does not pass; "" if it does."""
    try:
        (rules or Rules()).examine(frame, protocol)
    except RefusedFrameError as error:
        return error.why
    return ""


@pytest.mark.parametrize("form", FORMS)
def test_what_widgets_say_passes(form: str) -> None:
    make, protocol = FORMS[form]
    for kind in MESSAGES:
        assert (
            refused(make(kind, {"target_name": "jupyter.widget.control", "comm_id": "1", "data": {}}), protocol) == ""
        )


@pytest.mark.parametrize("form", FORMS)
def test_no_other_message_passes_on_any_channel(form: str) -> None:
    """Without the list of messages and of channels each of them would."""
    make, protocol = FORMS[form]
    open_rules = Rules(messages=MESSAGES | set(OTHERS), channels=CHANNELS | set(ALL_CHANNELS))
    for kind in OTHERS:
        for channel in ALL_CHANNELS:
            frame = make(kind, {"code": "import os"}, channel)
            assert refused(frame, protocol) == ("message" if channel == "shell" else "channel"), (kind, channel)
            assert refused(frame, protocol, open_rules) == ""


@pytest.mark.parametrize("form", FORMS)
def test_the_widgets_messages_pass_on_the_shell_channel_only(form: str) -> None:
    make, protocol = FORMS[form]
    for channel in ALL_CHANNELS[1:]:
        assert refused(make("comm_msg", channel=channel), protocol) == "channel"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", ["jupyter.widget", "matplotlib", "hvplot", ""])
def test_no_foreign_comm_is_opened(form: str, target: str) -> None:
    """Without the list of targets a page could open any comm that a library has registered in the kernel."""
    make, protocol = FORMS[form]
    frame = make("comm_open", {"target_name": target, "comm_id": "1", "data": {}})
    assert refused(frame, protocol) == "target"
    assert refused(frame, protocol, Rules(targets=TARGETS | {target})) == ""
    for wrong in (None, 1, [*TARGETS], {}):
        assert refused(make("comm_open", {"target_name": wrong}), protocol) == "target"


MALFORMED: tuple[tuple[str | bytes, str | None], ...] = (
    (b"", BINARY),
    (b"\x00" * 8, BINARY),
    (b"\xff" * 64, BINARY),
    ("text", BINARY),
    (binary("comm_msg")[:-1], BINARY),
    (binary("comm_msg") + b"x", BINARY),
    ((1 << 40).to_bytes(8, "little") + binary("comm_msg")[8:], BINARY),
    (binary("comm_msg").replace(b'"comm_msg"', b"[1,2,3,4] "), BINARY),
    (binary("comm_msg").replace(b"shell", b"\xff\xfe\xfd\xfc\xfb"), BINARY),
    (binary("comm_msg").replace(b'"1"', b"NaN"), BINARY),
    ("", None),
    ("[]", None),
    ("null", None),
    ("{", None),
    ("{}", None),
    ('{"header": 1, "channel": "shell"}', None),
    ("[" * 100_000, None),
    (b"\x00\x00\x00\x01", None),
    (b"\xff\xff\xff\xff" + b"\x00" * 64, None),
    (struct.pack("!III", 2, 0, 4), None),
    (legacy("comm_msg").replace('"comm_msg"', "null"), None),
    (legacy("comm_msg").replace('"shell"', "null"), None),
    (legacy("comm_msg").replace('"msg_id": "1"', '"msg_id": 1'), None),
    (legacy("comm_msg").replace('"content": {}', '"content": []'), None),
    (legacy("comm_msg").replace('"msg_type"', '"msg_type": "x", "msg_type"'), None),
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(MALFORMED)))
def test_what_is_no_message_is_refused_as_such(number: int) -> None:
    frame, protocol = MALFORMED[number]
    assert refused(frame, protocol) == "malformed"


def test_a_long_frame_is_refused_before_it_is_read() -> None:
    frame = binary("comm_msg", {"data": "x" * (1 << 20)})
    assert refused(frame, BINARY) == "oversize"
    assert refused(frame, BINARY, Rules(most_bytes=1 << 22)) == ""


def test_a_meter_lets_through_what_its_window_allows() -> None:
    now = [0.0]
    meter = Meter(3, 6.0, lambda: now[0])
    assert [meter.take() for _ in range(5)] == [True, True, True, False, False]
    now[0] = 2.0  # one more after a third of the window
    assert [meter.take(), meter.take()] == [True, False]
    assert all(Meter(10**9, 1.0).take() for _ in range(5))


HOSTS = {
    "127.0.0.1:8866": True, "localhost:1": True, "[::1]:80": True, "127.0.0.2": True, "LOCALHOST": True,
    "evil.example": False, "127.0.0.1.evil.example": False, "localhost.evil.example:8866": False, "": False,
    "10.0.0.7:8866": False, "localhost@evil.example": False, "localhost:8866:1": False, "a b": False,
}  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_a_request_for_another_host_is_none_of_ours(host: str) -> None:
    """DNS rebinding: a page of evil.example, which resolves to 127.0.0.1 now, is let in only if it is our own name."""
    assert host_allowed(host, Settings()) is HOSTS[host]
    assert host_allowed("evil.example", Settings(public_url="https://evil.example/"))


def test_a_gateway_for_others_answers_to_its_addresses_and_its_name() -> None:
    settings = Settings(host="0.0.0.0", public_url="https://apps.example.org/x/")
    assert host_allowed("10.0.0.7:8866", settings)
    assert host_allowed("apps.example.org", settings)
    assert not host_allowed("other.example.org", settings)


PATHS = {
    "/apps/profiler": True, "/voila/static/voila.js": True, "/voila/labextensions/@a/x.js": True, "/": True,
    "/voila/static/../../etc/passwd": False, "/voila/static/%2e%2e/x": False, "/voila/static/%2E%2E%2Fx": False,
    "/voila//static": False, "/voila/static/..%5cx": False, "/apps/x%00.png": False, "/apps\\x": False, "/.": False,
    "/voila/static/%252e%252e/": False, "/apps/x;y": False, "/a/./b": False, "apps": False, "/a\nb": False,
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_climbs_or_hides(path: str) -> None:
    assert path_allowed(path) is PATHS[path]


def request(origin: str = "", host: str = "127.0.0.1:8866", **headers: str) -> httputil.HTTPServerRequest:
    given = httputil.HTTPHeaders({"Host": host, **({"Origin": origin} if origin else {}), **headers})
    connection = type("C", (), {"context": type("X", (), {"remote_ip": "10.0.0.1", "protocol": "http"})})()
    line = httputil.RequestStartLine("GET", "/", "HTTP/1.1")
    return httputil.HTTPServerRequest(start_line=line, headers=given, connection=connection)


def test_an_origin_is_ours_or_the_public_ones() -> None:
    public = Settings(public_url="https://apps.example.org/")
    assert origin_allowed("http://127.0.0.1:8866", request(), public)
    assert origin_allowed("https://apps.example.org", request(), public)
    for foreign in (
        "http://evil.example",
        "null",
        "https://127.0.0.1:8866",
        "http://127.0.0.1",
        "http://apps.example.org",
    ):
        assert not origin_allowed(foreign, request(), public), foreign


def test_an_address_is_believed_from_a_trusted_proxy_only() -> None:
    forged = {"X-Forwarded-For": "1.2.3.4, 5.6.7.8", "X-Forwarded-Proto": "https"}
    assert address_of(request(**forged), ()) == ("10.0.0.1", "http")
    assert address_of(request(**forged), ("10.0.0.1",)) == ("5.6.7.8", "https")  # 1.2.3.4 anybody could have written
    assert address_of(request(**forged), ("10.0.0.1", "5.6.7.8")) == ("1.2.3.4", "https")
    assert address_of(request(**{"X-Forwarded-For": "nonsense"}), ("10.0.0.1",)) == ("10.0.0.1", "http")


def test_one_person_of_ipv6_is_one_address() -> None:
    assert address_key("2001:db8:1:2:3::4") == address_key("2001:db8:1:2::9")
    assert address_key("2001:db8:1:3::9") != address_key("2001:db8:1:2::9")
    assert address_key("10.1.2.3") == "address:10.1.2.3"
    assert address_key("drop table") == address_key(None) == "address:unknown"


def scoped(folder: Path, name: str, scope: str = 'title = "A"\n') -> None:
    (folder / f"{name}.ipynb").write_text("{}")
    (folder / f"{name}.toml").write_text(scope)


def test_apps_are_the_notebooks_that_have_a_scope(tmp_path: Path) -> None:
    scoped(tmp_path, "one", 'title = "First"\nopen_to = "admin"\n')
    (tmp_path / "two.ipynb").write_text("{}")
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "one.png").write_bytes(b"")
    apps = find_apps(tmp_path)
    assert list(apps) == ["one"]
    assert (apps["one"].title, apps["one"].picture) == ("First", tmp_path / "public" / "one.png")
    assert [apps["one"].open_to(role) for role in ("guest", "user", "admin")] == [False, False, True]
    assert without_scope(tmp_path, apps) == ["two.ipynb"]


def test_a_wrong_folder_of_apps_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ScopeFileError, match="name it with --apps"):
        find_apps(tmp_path / "none")
    (tmp_path / "lonely.toml").write_text('title = "A"\n')
    with pytest.raises(ScopeFileError, match=r"lonely\.ipynb, which is not there"):
        find_apps(tmp_path)
    (tmp_path / "lonely.toml").unlink()
    scoped(tmp_path, "Big-Name")
    with pytest.raises(ScopeFileError, match="small letters"):
        find_apps(tmp_path)


def test_a_kernel_fills_so_many_lines_of_the_log_and_says_how_many_it_could_not() -> None:
    now = [0.0]
    lines = Lines(most=5, amount=2, window_s=10.0, clock=lambda: now[0])
    assert [lines.take() for _ in range(4)] == ["", "", None, None]
    now[0] = 10.0
    assert lines.take() == "(2 lines of this kernel were left out) "
    now[0] = 20.0
    assert [lines.take(), lines.take()] == ["", "(the last line of this kernel that is logged) "]
    now[0] = 1e6
    assert (lines.take(), lines.left_out) == (None, 3)


def test_what_a_hostile_page_makes_its_kernel_complain_of_has_an_end_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message can cause an error and a text on stderr, 2,400 a minute on each of four sockets."""
    session = Session(key=b"of the tests")
    kernels = SimpleNamespace(seats={"k": SimpleNamespace(lines=Lines())})
    shown: list[str] = []

    def passed_on(self: GateConnection, stream: str, message: list[Any]) -> None:
        told = session.deserialize(session.feed_identities(message)[1])
        self._on_error("iopub", told, message[2:])
        shown.append(told["content"]["evalue"])

    monkeypatch.setattr(ZMQChannelsWebsocketConnection, "handle_outgoing_message", passed_on)
    page = GateConnection.__new__(GateConnection)
    parts = {"session": session, "kernel_id": "k", "multi_kernel_manager": kernels, "subprotocol": None}
    for name, value in parts.items():
        monkeypatch.setattr(GateConnection, name, value, raising=False)
    hostile = {"ename": "TraitError", "evalue": "x", "traceback": ["x" * 9_000]}
    with caplog.at_level("INFO"):
        for _ in range(500):
            for kind, content in (("error", hostile), ("stream", {"name": "stderr", "text": "y" * 3_000})):
                page.handle_outgoing_message("iopub", session.serialize(session.msg(kind, content)))
    assert len(caplog.records) == 20
    assert sum(len(record.getMessage()) for record in caplog.records) < 200_000
    assert kernels.seats["k"].lines.left_out == 980
    assert "(number " in shown[0]
    assert "number" not in shown[-1]


def test_rates_of_unknown_things_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"settings have"):
        Rates(Settings(rates={"nothing": "1/minute"}))
    with pytest.raises(InvalidInputError, match="such as '30/minute'"):
        Rates(Settings(rates={"login": "often"}))
