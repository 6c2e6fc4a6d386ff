"""A gateway for tests: a process of its own, started as people start it, with its own folders."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import nbformat
from browser import KERNEL_PATH

from codesign_kernel.store import Store
from codesign_kernel.store.people import People

#: Seconds that it has to start, and to stop.
PATIENCE_S = 150
SCOPE = 'title = "{title}"\nsummary = "A test."\nopen_to = "{open_to}"\ncapabilities = {capabilities}\n'


class Gate(NamedTuple):
    """A running gateway.

    Attributes:
        url: with a slash at the end.
        token: of ``identity = "token"``; empty with another.
        log: what it wrote to stderr.
        process: the server's.
        apps: folder of its notebooks.
        data: its own folder.
        told: what it printed at start.
    """

    url: str
    token: str
    log: Path
    process: subprocess.Popen[str]
    apps: Path
    data: Path
    told: dict[str, Any]

    @property
    def sign_in(self) -> str:
        """An address that signs a browser in, where the identity is the token."""
        return str(self.told["login"])

    def visitor(self, name: str, role: str = "user") -> dict[str, str]:
        """The cookie of somebody who is signed in; who they are is made where it is not there yet."""
        with Store(f"sqlite:///{self.data / 'store.db'}") as store:
            people = People(store)
            person = people.by_name(name) or people.add(name, role)
            secret = people.start_login(person.subject, 3600)
        return {f"codesign-{self.told['port']}": secret}

    def token_of(self, name: str, capabilities: Iterable[str], role: str = "user") -> str:
        """An API token of that person's."""
        with Store(f"sqlite:///{self.data / 'store.db'}") as store:
            people = People(store)
            person = people.by_name(name) or people.add(name, role)
            return people.create_token(person, "test", capabilities, 1)[1]

    def subject(self, name: str) -> str:
        """The random name of somebody who is known."""
        with Store(f"sqlite:///{self.data / 'store.db'}") as store:
            person = People(store).by_name(name)
        assert person is not None
        return person.subject


def write_app(
    folder: Path, name: str, *cells: str, open_to: str = "user", more: str = "", capabilities: str = "[]"
) -> None:
    """A notebook of these code cells and its scope file; ``more`` is further TOML."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(made, folder / f"{name}.ipynb")
    scope = SCOPE.format(title=name.capitalize(), open_to=open_to, capabilities=capabilities)
    (folder / f"{name}.toml").write_text(scope + more)


@contextlib.contextmanager
def gateway(folder: Path, **settings: Any) -> Iterator[Gate]:
    """``codesign serve`` on a free port, with ``settings`` (text, numbers and tables of text); stopped at the end.

    Its apps are in ``folder/apps``: written before it starts, see :func:`write_app`, or ``apps_dir`` of the settings.
    """
    data, apps = folder / "data", Path(settings.pop("apps_dir", folder / "apps"))
    port = settings.pop("port", 0)
    apps.mkdir(exist_ok=True)
    (folder / "gateway.toml").write_text("".join(f"{name} = {_toml(value)}\n" for name, value in settings.items()))
    command = [sys.executable, "-W", "ignore", "-m", "codesign_kernel.cli", "serve", "--json"]
    command += ["--port", str(port)]
    command += ["--config", str(folder / "gateway.toml"), "--apps", str(apps), "--data", str(data)]
    environment = os.environ | {"PYTHONPATH": KERNEL_PATH, "CODESIGN_DATA_DIR": str(folder / "kept")}
    log = folder / "gateway.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=out, text=True, start_new_session=True
        )
        try:
            told = _announced(process, log)
            token = parse_qs(urlsplit(told["login"]).query).get("token", [""])[0]
            yield Gate(
                f"http://127.0.0.1:{told['port']}{urlsplit(told['url']).path}", token, log, process, apps, data, told
            )
        finally:
            stop(process)


def stop(process: subprocess.Popen[str]) -> int:
    """Stop a gateway as an operator does, and kill it if it does not; its exit status."""
    process.terminate()
    try:
        return process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def _announced(process: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    """The object that a gateway prints once it listens."""
    timer = threading.Timer(PATIENCE_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("}"):
                return dict(json.loads("".join(lines)))
    finally:
        timer.cancel()
    raise RuntimeError(f"the gateway does not start: {''.join(lines)}{log.read_text(errors='replace')[-4000:]}")
