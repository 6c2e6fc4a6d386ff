"""Signing in through a real JupyterHub on loopback, configured by the example of deploy/."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browser import free_port
from gateway import Gate, gateway, write_app

ROOT = Path(__file__).parent.parent
PATIENCE_S = 120


class Hub:
    """A running hub."""

    def __init__(self, folder: Path, callback: str) -> None:
        self.public, self.inner, proxy = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        self.folder = folder
        (folder / "hub-token").write_text("f" * 64)
        (folder / "hub-token").chmod(0o600)
        given = {
            "BIND_URL": self.public,
            "HUB_BIND_URL": self.inner,
            "PROXY_API_URL": proxy,
            "PROXY": str(Path(sys.executable).parent / "configurable-http-proxy"),
            "PASSWORD": "open sesame",
            "CALLBACK_URL": callback,
            "TOKEN_FILE": str(folder / "hub-token"),
        }
        self.environment = os.environ | {f"CODESIGN_HUB_{name}": value for name, value in given.items()}
        self.log = (folder / "hub.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "jupyterhub", "-f", str(ROOT / "deploy" / "jupyterhub_config.py")],
            cwd=folder, env=self.environment, stdout=self.log, stderr=self.log, start_new_session=True,
        )  # fmt: skip

    def wait(self) -> None:
        """Back when it answers."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.public}/hub/api/", timeout=30).status_code == 200:
                    return
            assert self.process.poll() is None, (self.folder / "hub.log").read_text()[-3000:]
            time.sleep(0.2)
        pytest.fail((self.folder / "hub.log").read_text()[-3000:])

    def stop(self) -> None:
        """End it and its proxy."""
        self.log.close()  # the hub has its own
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(PATIENCE_S)
                raise

    def settings(self, callback: str) -> dict[str, object]:
        """Of the gateway."""
        return {
            "api_url": f"{self.inner}/hub/api",
            "base_url": f"{self.public}/hub/",
            "callback_url": callback,
            "client_id": "service-codesign",
            "service": "codesign",
            "api_token_file": "hub-token",  # beside the settings
        }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Gate]]:
    """A hub and the gateway that is its service."""
    pytest.importorskip("jupyterhub")
    folder = tmp_path_factory.mktemp("hub")
    (folder / "apps").mkdir()
    write_app(folder / "apps", "looking", "1", open_to="user")
    write_app(folder / "apps", "ruling", "1", open_to="admin")
    port = free_port()
    callback = f"http://127.0.0.1:{port}/oauth_callback"
    hub = Hub(folder, callback)
    try:
        given = {"identity": "jupyterhub", "warm_kernels": 0, "port": port, "hub": hub.settings(callback)}
        given["hub_roles"] = {"admin": "admin", "*": "user"}
        with gateway(folder, **given) as gate:
            hub.wait()
            yield hub, gate
    finally:
        hub.stop()


def visitor() -> httpx.Client:
    """A browser, as far as HTTP goes."""
    return httpx.Client(follow_redirects=True, timeout=120, headers={"Accept": "text/html"})


def form(client: httpx.Client, url: str, **data: str) -> httpx.Response:
    """Send a form of the gateway's."""
    return client.post(url, data={"_xsrf": client.cookies.get("_xsrf", path="/") or "", **data})


def sign_in(client: httpx.Client, gate: Gate, name: str) -> httpx.Response:
    """From the gateway's page to the hub's, and back."""
    page = client.get(f"{gate.url}login/hub?next=/account")
    found = re.search(r'name="_xsrf"\s+value="([^"]+)"', page.text)
    assert found is not None, page.text[:2000]
    data = {"username": name, "password": "open sesame", "_xsrf": found[1]}
    return client.post(str(page.url), data=data)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_people_of_the_hub_come_in_with_their_roles(pair: tuple[Hub, Gate]) -> None:
    hub, gate = pair
    with visitor() as ada, visitor() as teacher:
        asked = ada.get(gate.url)
        assert "Sign in with JupyterHub" in asked.text
        page = sign_in(ada, gate, "ada")
        assert (page.status_code, str(page.url)) == (200, f"{gate.url}account"), page.text[:500]
        assert "ada" in page.text
        assert "JupyterHub" in page.text
        gallery = ada.get(gate.url).text
        assert ("/apps/looking" in gallery, "/apps/ruling" in gallery) == (True, False)
        assert "teacher" in sign_in(teacher, gate, "teacher").text
        assert "/apps/ruling" in teacher.get(gate.url).text, "administrators of the hub are ours"
        cookies = " ".join(f"{one.name}={one.value}" for one in ada.cookies.jar if one.domain.startswith("127"))
        assert "f" * 64 not in cookies

        for url in (f"{gate.url}oauth_callback?code=x&state=wrong", f"{gate.url}oauth_callback?code=x"):
            refused = ada.get(url)
            assert refused.status_code == 403
            assert "start again" in refused.text
        with visitor() as stranger:
            started = stranger.get(f"{gate.url}login/hub", follow_redirects=False)
            query = httpx.URL(started.headers["location"]).params
            assert query["code_challenge_method"] == "S256"
            assert (
                ada.get(f"{gate.url}oauth_callback", params={"code": "x", "state": query["state"]}).status_code == 403
            )
            made_up = stranger.get(f"{gate.url}oauth_callback", params={"code": "x", "state": query["state"]})
            assert made_up.status_code == 403, "the hub does not know this code"
            again = stranger.get(f"{gate.url}oauth_callback", params={"code": "x", "state": query["state"]})
            assert again.status_code == 403
            assert stranger.get(f"{gate.url}account", follow_redirects=False).status_code == 302

        left = form(ada, f"{gate.url}logout")
        assert "You are signed out" in left.text
        assert f"{hub.public}/hub/logout" in left.text
        assert ada.get(f"{gate.url}account", follow_redirects=False).status_code == 302

        hub.stop()
        down = ada.get(f"{gate.url}login/hub")
        assert down.status_code == 503
        assert int(down.headers["retry-after"]) >= 1
        assert "does not answer" in down.text
        assert "127.0.0.1" not in down.text
        assert teacher.get(gate.url).status_code == 200, "who is in stays in"
    log = (gate.log).read_text()
    assert "open sesame" not in log
    assert "f" * 64 not in log
