"""``codesign serve`` where it cannot start: one clear line on standard error, and exit status 2."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway import write_app

from codesign_kernel.cli import main, serve
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.server.settings import read_settings


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """The command points Jupyter's libraries at folders of the gateway."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def said(capsys: pytest.CaptureFixture[str], folder: Path, config: str | bytes = "", *more: str) -> str:
    """The one line of a gateway that does not start."""
    (folder / "gateway.toml").write_bytes(config if isinstance(config, bytes) else config.encode())
    (folder / "apps").mkdir(exist_ok=True)
    given = ["--config", str(folder / "gateway.toml"), "--apps", str(folder / "apps"), "--data", str(folder / "data")]
    assert main(["serve", *given, "--port", "0", *more]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("codesign serve: ")]
    assert out == ""
    assert len(lines) == 1
    assert "Traceback" not in err
    return lines[0]


def test_a_port_beyond_the_last(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("port = 70000")
    with pytest.raises(InvalidInputError, match="port is a whole number from 0 to 65,535, but got 70,000"):
        read_settings(tmp_path / "gateway.toml")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("max_kernel = 3", "unknown: max_kernel (near it: max_kernels)"),
        ("trusted_proxies = ['10.0.0.0/8']", "no names and no networks, but got '10.0.0.0/8'"),
        ("trusted_proxies = [5]", "trusted_proxies holds addresses"),
        ("max_kernels = ", "is no TOML"),
        (b"\xff\xfe", "is no TOML"),
        ("max_kernels = -1", "max_kernels is a whole number from 0, but got -1"),
        ("host = 5", "host is a text, but got 5"),
        ("log_file = 5", "log_file is a path, but got 5"),
        ("trusted_proxies = 5", "trusted_proxies is a list of texts, but got 5"),
        ("rates = 5", "rates is a table, but got 5"),
        ("guests = 1", "guests is true or false, but got 1"),
        ('rates = {page = "often"}', "often"),
        ('rates = {pages = "5/minute"}', "pages"),
        ('identity = "none"', "identity is one of token, password, jupyterhub"),
        ('database_url = "mysql://x/y"', "a store is SQLite or PostgreSQL"),
        ("cluster_workers = -2", "cluster_workers is a whole number from 0, but got -2"),
        ("cluster_workers = 2000", "cluster_workers is at most 1,000, but got 2,000"),
        ("cluster_workers = 2\ncluster_worker_bytes = 5", "cluster_worker_bytes is 536,870,912 at least"),
        ('metrics_token_file = "none"', "a file that the gateway can read, with a token in it, but "),
    ],
)
def test_settings(config: str | bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in said(capsys, tmp_path, config)


def test_a_config_or_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert "cannot be read: No such file" in said(capsys, tmp_path, "", "--config", nowhere)
    assert "name it with --apps" in said(capsys, tmp_path, "", "--apps", nowhere)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('capabilities = ["fly"]', "fly"),
        ("[limits]\nmemory_bytes = -5", "memory_bytes"),
        ("[limits]\nspeed = 5", "speed"),
        (
            'network = "cluster"\ncapabilities = ["cluster"]\n[limits]\nworkers = 2',
            "this gateway has none (cluster_workers is 0)",
        ),
    ],
)
def test_scopes(more: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "apps").mkdir()
    write_app(tmp_path / "apps", "greedy", "1")
    scope = tmp_path / "apps" / "greedy.toml"
    lines = [line for line in scope.read_text().splitlines() if not ("capab" in line and "capab" in more)]
    scope.write_text("\n".join([*lines, more]))
    line = said(capsys, tmp_path)
    assert words in line
    assert "greedy" in line


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = said(capsys, tmp_path, "", "--port", str(port))
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use; end what" in line
    assert "a free port with --port" in line
    # it is told before anything is made that a gateway keeps
    assert not (tmp_path / "data" / "store.db").exists()


def test_packages_that_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = serve.find_spec
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "limits" else real(name))
    line = said(capsys, tmp_path)
    assert "needs limits" in line
    assert "[serve]" in line
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "distributed" else real(name))
    line = said(capsys, tmp_path, "cluster_workers = 1")
    assert "needs distributed" in line
    assert "[scale]" in line


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    line = said(capsys, tmp_path, "", "--data", str(tmp_path / "file" / "data"))
    assert line.startswith("codesign serve: data_dir is a folder that ")
    assert "; make it so, or name another" in line


def test_paths_too_long_for_sockets_are_refused_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    line = said(capsys, tmp_path, "", "--data", str(long / "data"))
    assert "has at most 68 bytes in its path" in line
    assert "choose a data_dir (--data) of at most 64 bytes, or set TMPDIR" in line


def test_what_a_gateway_writes_is_its_users_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, tmp_path, 'rates = {page = "often"}')  # found when the database is there
    assert (tmp_path / "data" / "store.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data").stat().st_mode & 0o066 == 0


def test_a_command_of_another_user_than_the_gateways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65_533)
    for command in (["user", "list"], ["privacy", "retain"]):
        assert main([*command, "--data", str(tmp_path)]) == 2
        assert "the data folder is written by the user that the gateway runs as" in capsys.readouterr().err
