"""What a running gateway tells of itself: open to all, to Prometheus, and to administrators alone."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("voila")
httpx = pytest.importorskip("httpx")

from gateway import Gate, gateway  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from codesign_kernel.errors import StoreUnavailableError  # noqa: E402
from codesign_kernel.server import probes as probes_module  # noqa: E402
from codesign_kernel.server.health import FORWARDED  # noqa: E402
from codesign_kernel.server.history import History  # noqa: E402
from codesign_kernel.server.probes import Probes  # noqa: E402
from codesign_kernel.server.signals import Signals, pattern_words  # noqa: E402
from codesign_kernel.telemetry.audit import Audit  # noqa: E402
from codesign_kernel.telemetry.metrics import Metrics  # noqa: E402
from codesign_kernel.telemetry.verify import entries, verify  # noqa: E402

ROOT = Path(__file__).parent.parent
#: Seconds for what is there within one on a machine that is not busy.
PATIENCE_S = 90


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("gate")
    token = folder / "metrics_token"
    token.write_text("metrics-token-0123456789\n")
    with gateway(
        folder, identity="password", warm_kernels=0, metrics_token_file=token, trusted_proxies=["127.0.0.1"]
    ) as running:
        yield running


def ask(gate: Gate, path: str, name: str = "", role: str = "user", method: str = "GET", **given: Any) -> Any:
    """An answer, to a person's API token or to nobody."""
    headers = dict(given.pop("headers", {}))
    if name:
        capabilities = given.pop("capabilities", ["admin"] if role == "admin" else ["profile"])
        headers["Authorization"] = f"Bearer {gate.token_of(name, capabilities, role)}"
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        return client.request(method, f"{gate.url}{path}", headers=headers, **given)


def tried(gate: Gate, path: str, *who: str) -> Any:
    """An answer about the parts of the gateway, when each of them was tried in time: it has 3 s for that."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        answer = ask(gate, path, *who)
        if (answer.status_code == 200 and "did not answer within" not in answer.text) or time.monotonic() > deadline_s:
            return answer
        time.sleep(0.5)


@pytest.mark.slow
def test_whoever_asks_learns_whether_and_no_more(gate: Gate) -> None:
    live, ready = ask(gate, "health"), tried(gate, "health/ready")
    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "lacking": []})
    assert live.headers["Cache-Control"] == "no-store"
    for path in ("health/detail", "api/v1/admin/overview", "api/v1/admin/audit", "api/v1/admin/kernels"):
        assert ask(gate, path).status_code == 401, path
        assert ask(gate, path, "uma").status_code == 403, path
        # an administrator's token that was not given the capability
        assert ask(gate, path, "ada", "admin", capabilities=["profile"]).status_code == 403, path


@pytest.mark.slow
def test_administrators_see_every_part_tried(gate: Gate) -> None:
    told = tried(gate, "health/detail", "ada", "admin").json()
    assert told["ready"], told
    assert set(told["parts"]) >= {"database", "cache", "cluster", "simulators", "sandbox", "data", "audit", "jobs"}
    assert told["parts"]["database"]["kind"] == "sqlite"
    assert told["parts"]["cache"]["tiers"]["database"]["answers"] is True
    assert "myhdl" in told["parts"]["simulators"]["here"]
    assert told["parts"]["audit"]["lines"] >= 1
    assert told["breakers"]["cache database"] == "closed"
    assert all("took_ms" in found for found in told["parts"].values())
    assert str(gate.data) not in json.dumps(told), "no path of the server"


@pytest.mark.slow
def test_metrics_are_for_prometheus(gate: Gate) -> None:
    here = ask(gate, "metrics")
    assert here.status_code == 200
    assert here.headers["Content-Type"].startswith("text/plain")
    for header in FORWARDED:
        assert ask(gate, "metrics", headers={header: "127.0.0.1"}).status_code == 403, header
    far = {"X-Forwarded-For": "203.0.113.7"}
    shown = {"Authorization": "Bearer metrics-token-0123456789"}
    assert ask(gate, "metrics", headers={**far, **shown}).status_code == 200
    assert ask(gate, "metrics", headers={**far, "Authorization": "Bearer metrics-token-012345678"}).status_code in (
        401,
        403,
    )
    assert ask(gate, "metrics", "ada", "admin", headers=far).status_code == 200
    assert ask(gate, "metrics", "uma", headers=far).status_code == 403
    ask(gate, "no/such/page/Ada%20Lovelace")
    ask(gate, "api/v1/jobs/0123456789abcdef0123456789abcdef", "uma")
    text = ask(gate, "metrics").text
    families = text_string_to_metric_families(text)
    samples = {sample.name: sample for family in families for sample in family.samples}
    assert {
        "codesign_server_memory_bytes",
        "codesign_people_active",
        "codesign_jobs",
        "codesign_cache_requests_total",
    } <= set(samples)
    assert not [line for line in text.splitlines() if line.startswith("codesign_source_up") and line.endswith(" 0.0")]
    assert "Lovelace" not in text
    assert "0123456789abcdef" not in text
    assert 'route="/health/ready/"' in text
    for subject in (gate.subject("ada"), gate.subject("uma")):
        assert subject not in text


@pytest.mark.slow
def test_an_administrator_reads_and_verifies_the_trail(gate: Gate) -> None:
    told = tried(gate, "api/v1/admin/overview", "ada", "admin").json()
    assert told["health"]["ready"] is True
    assert told["kernels"] == []
    assert told["jobs"]["jobs"] == []
    assert told["people"]["people"] >= 1
    assert told["audit"]["lines"] >= 1
    checked = ask(gate, "api/v1/admin/audit/verify", "ada", "admin", "POST").json()
    assert checked["intact"] is True
    shown = ask(gate, "api/v1/admin/audit?event=admin&since=1h&limit=1", "ada", "admin").json()
    (entry,) = shown["entries"]
    assert entry["data"]["action"] == "verify audit trail"
    assert entry["who"] == gate.subject("ada")
    for wrong in ("limit=0", "limit=x", "since=yesterday"):
        assert ask(gate, f"api/v1/admin/audit?{wrong}", "ada", "admin").status_code == 400, wrong
    gone = "00000000-0000-0000-0000-000000000000"
    assert ask(gate, f"api/v1/admin/kernels/{gone}", "ada", "admin", "DELETE").status_code == 404
    assert ask(gate, f"api/v1/admin/jobs/{'0' * 32}", "ada", "admin", "DELETE").status_code == 404
    assert ask(gate, "api/v1/admin/kernels", "ada", "admin", "POST").status_code in (403, 405)
    assert verify(gate.data / "audit" / "audit.jsonl").intact


@pytest.mark.slow
def test_the_log_names_routes_and_no_secrets(gate: Gate) -> None:
    ask(gate, "health?token=secret-of-mine-77", headers={"X-Request-ID": "request-77"})
    deadline_s = time.monotonic() + PATIENCE_S
    while "request-77" not in gate.log.read_text() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    text = gate.log.read_text()
    assert "secret-of-mine-77" not in text
    text = text[: text.rindex("\n")]  # the last line may be half there
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    (mine,) = [line for line in lines if line.get("request_id") == "request-77"]
    assert (mine["event"], mine["status"], mine["method"]) == ("request", 200, "GET")
    assert "?" not in mine["route"]


def services(**parts: Any) -> Any:
    return SimpleNamespace(**parts)


def test_readiness_turns_false_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe of a part that hangs or fails is told as such, in time, and the others go on."""
    state = {"lost": False, "slow": False}
    answers = threading.Event()
    monkeypatch.setattr(probes_module, "FRESH_S", 3600.0)

    class Trying(Probes):
        NEEDED = ("database", "audit")

        async def _try(self, name: str) -> dict[str, Any]:  # little patience only with the one that hangs
            self._patience_s = 0.2 if state["slow"] and name == "audit" else 90.0
            return await super()._try(name)

    def database() -> dict[str, Any]:
        if state["lost"]:
            raise StoreUnavailableError("postgresql://codesign:hidden-word@db cannot be reached")
        return {"ok": True}

    def audit() -> dict[str, Any]:
        if state["slow"]:
            answers.wait(90)
        return {"ok": True}

    async def walk() -> None:
        probes = Trying(services())
        probes._ready = (-math.inf, {})
        probes.tries = {"database": database, "audit": audit}
        try:
            assert all(found["ok"] for found in (await probes.ready()).values())
            state["lost"] = True
            assert (await probes.ready())["database"]["ok"], "asked again at once, it is what was found just now"
            probes._ready = (-math.inf, {})
            found = await probes.ready()
            assert not found["database"]["ok"]
            assert "hidden-word" not in found["database"]["detail"]
            assert found["audit"]["ok"]
            state.update(lost=False, slow=True)
            found = await probes.detail()
            assert found["database"]["ok"]
            assert found["audit"]["detail"] == "did not answer within 0.2 s"
            state["slow"] = False
            answers.set()
            assert (await probes.detail())["audit"]["ok"]
        finally:
            answers.set()
            probes.close()

    asyncio.run(walk())


def test_signals_reach_trail_and_metrics_and_do_not_flood(tmp_path: Path) -> None:
    now = [0.0]
    metrics = Metrics(apps={"profiler"}, kinds={"explore"})
    signals = Signals(Audit(tmp_path / "audit.jsonl"), metrics, clock=lambda: now[0])
    signals.kernel("warmed", "profiler", "", 1.0)
    signals.kernel("started", "profiler", "s1", 0.5)
    signals.kernel("killed", "profiler", "s1", reason="memory_bytes: 3 of 2")
    signals.job("explore", "queued", "s1", "j1")
    signals.job("explore", "done", "s1", "j1", 2.0)
    for _ in range(50):
        signals.refused("rate", "s1", route="/x")
    signals.refused("rate", "s2")
    now[0] = 61.0
    signals.refused("rate", "s1")
    told = list(entries(tmp_path / "audit.jsonl"))[::-1]
    assert [one["event"] for one in told] == [
        "kernel_started", "kernel_killed", "job_submitted", "job_ended", "rate_limited", "rate_limited", "rate_limited",
    ]  # fmt: skip
    assert told[-1]["data"] == {"times": 50}
    assert told[1]["data"]["reason"] == "memory_bytes: 3 of 2"
    assert metrics.snapshot()['codesign_refusals_total{why="rate"}'] == 52
    assert metrics.snapshot()['codesign_jobs_ended_total{kind="explore",state="done"}'] == 1
    (tmp_path / "audit.jsonl.head").write_bytes(b"damaged")
    signals.refused("ownership", "s9")  # the trail is broken: still refused, and counted
    assert metrics.snapshot()['codesign_errors_total{where="audit"}'] == 1


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"/api/v1/jobs/(?P<id>[0-9a-f]{32})$", "/api/v1/jobs/{id}"),
        (r"/apps/([a-z][a-z0-9_]*)$", "/apps/{}"),
        (r"/api/kernels/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/channels$", "/api/kernels/{}/channels"),
        (r"/voila/static/(.+)$", "/voila/static/{}"),
        (r"/pictures/([a-z][a-z0-9_]*\.png)$", "/pictures/{}"),
    ],
)
def test_a_route_is_told_as_its_pattern(pattern: str, words: str) -> None:
    assert pattern_words(pattern) == words


def test_metrics_that_wait_for_the_database_hold_up_nobody() -> None:
    asked = threading.Event()
    waits: list[bool] = []

    def snapshot() -> dict[str, float]:
        waits.append(asked.wait(60))  # as the database while it is silent
        return {}

    async def others() -> None:
        history = History(SimpleNamespace(snapshot=snapshot))  # type: ignore[arg-type]
        history.start()
        await asyncio.sleep(0.05)
        asked.set()  # reached while the metrics wait
        while not waits:
            await asyncio.sleep(0.01)
        history.close()

    asyncio.run(others())
    assert waits == [True]


def test_the_last_minutes_are_rates() -> None:
    now = [100.0]
    metrics = Metrics()
    history = History(metrics, clock=lambda: now[0], wall=lambda: 1_000 + now[0])
    history.look()
    assert history.series()["at"] == []
    for _ in range(20):
        metrics.request("/x", "GET", 200, 0.5)
    metrics.request("/x", "GET", 500, 0.5)
    metrics.source("jobs", lambda: {"queued": 4, "running": 1})
    now[0] = 110.0
    history.look()
    now[0] = 120.0
    history.look()
    series = history.series()
    assert series["at"] == [1_110, 1_120]
    assert series["requests"] == [2.1, 0.0]
    assert series["errors"] == [0.1, 0.0]
    assert series["latency_s"] == [0.5, None]
    assert series["queued"] == [4, 4]
