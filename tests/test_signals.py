"""What operators are told: every event of the audit trail has a writer, refusals, tokens, traces and designs."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from apicases import Here, service
from door import Browser, Door, token_of

import codesign_kernel
from codesign_kernel.scopes import Scope
from codesign_kernel.server.apps import App
from codesign_kernel.server.kernels import ScopedKernelManager
from codesign_kernel.server.sandbox import probe
from codesign_kernel.server.services import Services
from codesign_kernel.server.settings import Settings
from codesign_kernel.server.signals import FAMILIES, HOUR_S, REFUSED, Signals, method_of
from codesign_kernel.telemetry.audit import EVENTS, Audit
from codesign_kernel.telemetry.metrics import REFUSALS, Metrics
from codesign_kernel.telemetry.trace import Tracer
from codesign_kernel.telemetry.verify import entries

CAME = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
TRACE = 0x0AF7651916CD43DD8448EB211C80319C
DESIGN = {"rows": 8, "cols": 8}


def written() -> tuple[set[str], set[str]]:
    """(events that some code writes into a trail, reasons for which some code turns somebody away)."""
    events, reasons = set(REFUSED.values()), set()
    for path in Path(codesign_kernel.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            words = {c.value for arg in node.args for c in ast.walk(arg) if isinstance(c, ast.Constant)}
            if name in ("note", "often", "write", "_tried", "tell", "_append"):
                events |= words
            if name in ("refused", "turned_away", "_count", "Refused", "RefusedFrameError"):
                reasons |= words | {k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            # signals.kernel chooses its event from a table
            if name == "get":
                events |= {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
    return events, reasons


def test_every_event_of_the_table_is_written_somewhere() -> None:
    events, reasons = written()
    assert set(EVENTS) <= events, set(EVENTS) - events
    from codesign_kernel.server.handler import WHY

    assert set(REFUSED) <= reasons | {why for code, why in WHY.items() if code in reasons}
    assert set(REFUSED) <= set(REFUSALS)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    opened = Door(tmp_path, identity="password", rates={"page": "9/minute"})
    yield opened
    opened.close()


def test_who_is_turned_away_is_told_with_why(door: Door) -> None:
    person = door.add()
    with Browser(door, "192.0.2.7") as browser:
        browser.sign_in()
        door.signals.told.clear()
        assert browser.get("admin").status_code == 403
        assert browser.post("account/consent", data={"purpose": "storage", "answer": "yes"}).status_code == 403
        assert browser.post("account/consent", headers={"Origin": "https://evil.example"}).status_code == 403
        assert door.signals.told == [("scope", person.subject), ("xsrf", person.subject), ("origin", person.subject)]
        door.signals.told.clear()
        for _ in range(10):
            browser.get("account")
        assert ("rate", person.subject) in door.signals.told
    with Browser(door, "192.0.2.8") as program:
        door.signals.told.clear()
        assert program.get("api/v1/probe", headers=token_of(door, person, "profile")).status_code == 403
        assert door.signals.told == [("token_used", person.subject), ("scope", person.subject)]
        assert program.get("api/v1/probe", headers={"Authorization": "Bearer nothing"}).status_code == 401
        assert door.signals.told[-1] == ("sign_in", "")


def test_the_use_of_a_token_is_told_once_an_hour(tmp_path: Path) -> None:
    now = [0.0]
    signals = Signals(Audit(tmp_path / "audit.jsonl"), Metrics(), clock=lambda: now[0])
    for at in (0.0, 10.0, 3599.0, 3601.0):
        now[0] = at
        signals.token_used("s1", "cpg_0123456789abcdef")
    signals.token_used("s1", "cpg_ffffffffffffffff")
    told = list(entries(tmp_path / "audit.jsonl"))
    assert [one["event"] for one in told] == ["token_used"] * 3
    assert {one["data"]["id"] for one in told} == {"cpg_0123456789abcdef", "cpg_ffffffffffffffff"}


def test_nobody_fills_the_disk_with_the_trail_and_what_is_left_out_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codesign_kernel.server.signals.PLENTY", 5)
    now = [0.0]
    signals = Signals(Audit(tmp_path / "audit.jsonl"), Metrics(), clock=lambda: now[0])
    for number in range(55):
        signals.job("profile", "queued", "s1", f"{number}")
    signals.job("profile", "queued", "s2", "of another person")
    signals.often("sign_in", "s1")
    now[0] = HOUR_S
    signals.job("profile", "queued", "s1", "an hour later")
    told = sorted(entries(tmp_path / "audit.jsonl"), key=lambda one: one["n"])
    assert len(told) == 5 + 3
    assert told[-1]["data"] == {"kind": "profile", "job": "an hour later", "left_out": 50}
    assert [one["who"] for one in told[-3:-1]] == ["s2", "s1"]


def test_a_method_is_a_word_of_ours(tmp_path: Path) -> None:
    for method, told in (("GET", "GET"), ("X" * 30_000, "other"), (None, "other")):
        assert method_of(SimpleNamespace(request=SimpleNamespace(method=method))) == told  # type: ignore[arg-type]


def test_designs_are_counted_by_template(tmp_path: Path) -> None:
    metrics = Metrics(templates=("generator_4x8", *FAMILIES))
    signals = Signals(Audit(tmp_path / "audit.jsonl"), metrics)
    asked = {"designs": [{"template": "generator_4x8"}, DESIGN, {"template": "made up"}]}
    signals.worked("evaluate", asked, {}, 3.0)
    signals.worked("generate", {"design": {"template": "generator_4x8"}}, {}, 2.0)
    signals.worked("explore", {"space": "spatial"}, {"evaluated": 4_000}, 1.5)
    for untrue in (-3, True, "9", 10**30, None):
        signals.worked("explore", {}, {"evaluated": untrue}, 1.0)
    signals.worked("cosimulate", {"design": DESIGN}, {}, 1.0)
    found = metrics.snapshot()
    assert found['codesign_designs_total{template="generator_4x8"}'] == 2
    assert found['codesign_designs_total{template="systolic"}'] == 1
    assert found['codesign_designs_total{template="spatial"}'] == 4_000
    assert found['codesign_designs_total{template="other"}'] == 1
    assert found['codesign_design_seconds_total{template="generator_4x8"}'] == pytest.approx(3.0)


def test_a_trace_goes_from_the_request_into_its_job(tmp_path: Path) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, runner = InMemorySpanExporter(), Here()
    tracer = Tracer(exporter=exporter)
    jobs, _, store = service(tmp_path, runner, tracer=tracer)
    runner.hold.set()
    jobs.start()
    door = Door(tmp_path, jobs=jobs, tracer=tracer)
    try:
        headers = token_of(door, door.add(), "explore") | CAME | {"Prefer": "wait=10"}
        with Browser(door, "192.0.2.9") as program:
            answer = program.post("api/v1/explorations", headers=headers, json={"network": "cnn"})
            told, deadline_s = answer.json(), time.monotonic() + 90
            while told["state"] != "done" and time.monotonic() < deadline_s:  # it has not ended within its 10 s
                time.sleep(0.1)
                told = program.get(f"api/v1/jobs/{told['id']}", headers=headers).json()
            assert told["state"] == "done", told
            assert int(answer.headers["traceparent"].split("-")[1], 16) == TRACE
            program.get("account")
    finally:
        door.close()
        jobs.close()
        store.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    request, job = spans["POST /api/v1/explorations"], spans["job explore"]
    assert request.context.trace_id == job.context.trace_id == TRACE
    assert request.parent.span_id == 0xB7AD6B7169203331
    assert job.parent.span_id == request.context.span_id
    assert (request.attributes["status"], job.attributes["state"]) == (200, "done")
    assert spans["GET /account"].context.trace_id != TRACE


def test_a_kernels_start_is_a_span_of_the_request_that_asked(tmp_path_factory: pytest.TempPathFactory) -> None:
    tmp_path = tmp_path_factory.mktemp("k")  # short, because sockets lie in it
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter=exporter)
    app = App("open", Scope("open", "Open", "A test", "guest"), tmp_path / "open.ipynb")

    async def walk() -> None:
        kernels = ScopedKernelManager(
            settings=Settings(data_dir=tmp_path), confinement=probe(), run_root=tmp_path,
            on_change=lambda *facts: None, tracer=tracer, connection_dir=str(tmp_path),
        )  # fmt: skip
        span = tracer.begin("request", CAME, inside=True)
        try:
            await kernels.begin(app, None)
            tracer.end(span)
        finally:
            await kernels.end_all("")

    asyncio.run(walk())
    start = next(span for span in exporter.get_finished_spans() if span.name == "kernel start")
    assert start.context.trace_id == TRACE
    assert start.attributes["app"] == "open"


def test_who_leaves_leaves_nothing_unkept(tmp_path: Path) -> None:
    runner = Here()
    runner.hold.set()
    jobs, _, store = service(tmp_path, runner)
    jobs.start()
    door = Door(tmp_path, identity="password", jobs=jobs)
    try:
        person = door.add()
        scope = Scope("api", "Api", "A test", "user", frozenset({"profile"}))
        job, _ = jobs.submit(person.subject, scope, "profile", {"model": "cnn"})
        with Browser(door, "192.0.2.1") as first, Browser(door, "192.0.2.2") as second:
            first.sign_in()
            second.sign_in()
            second.form("logout")
            assert jobs.table.get(person.subject, job.id) is not None  # the other browser is still here
            first.form("logout")
            assert jobs.table.get(person.subject, job.id) is None
    finally:
        door.close()
        jobs.close()
        store.close()


def test_what_is_to_be_kept_goes_on_when_its_person_leaves(tmp_path: Path) -> None:
    runner = Here()
    jobs, people, store = service(tmp_path, runner, consent=True)
    with contextlib.closing(store), contextlib.closing(jobs):
        person, scope = people.add("ada", "user"), Scope("api", "Api", "A test", "user", frozenset({"profile"}))
        jobs.start()
        job, _ = jobs.submit(person.subject, scope, "profile", {"model": "cnn"})
        jobs.forget_unkept(person.subject)
        found = jobs.table.get(person.subject, job.id)
        assert found is not None
        assert found.state in ("queued", "running")
        runner.hold.set()


def test_each_job_of_a_batch_is_told_with_its_own_time(tmp_path: Path) -> None:
    told: list[float] = []
    runner = Here()
    jobs, people, store = service(tmp_path, runner, told=lambda *facts: told.append(facts[-1]), max_jobs=1)
    runner.answer = lambda job: time.sleep(0.1) or {"result": {}, "files": []}
    with contextlib.closing(store), contextlib.closing(jobs):
        person, scope = people.add("ada", "user"), Scope("api", "Api", "A test", "user", frozenset({"profile"}))
        for number in range(4):
            jobs.submit(person.subject, scope, "profile", {"model": "cnn", "name": str(number)})
        told.clear()
        runner.hold.set()
        began_s = time.monotonic()
        jobs.start()
        while len(told) < 4:
            time.sleep(0.02)
        assert len(runner.batches) == 1
        assert sum(told) <= time.monotonic() - began_s  # counted from the batch's start it would be more than there was


def test_a_gateway_is_wired(tmp_path: Path) -> None:
    (tmp_path / "apps").mkdir()
    services = Services.open(Settings(data_dir=tmp_path / "data", apps_dir=tmp_path / "apps"))
    try:
        services.jobs._worked("evaluate", {"designs": [{"template": "generator_8x8"}]}, {}, 1.0)
        assert services.metrics.snapshot()['codesign_designs_total{template="generator_8x8"}'] == 1
        assert services.jobs._tracer is services.tracer
    finally:
        services.close()
