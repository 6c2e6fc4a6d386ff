"""Log, metrics and traces: complete, in a form that machines read, and without secrets or people in them."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from codesign_kernel.errors import InvalidInputError, MissingPackageError, OutputError, StoreError
from codesign_kernel.store.breaker import Breaker
from codesign_kernel.store.cache import Cache
from codesign_kernel.store.tiers import MemoryTier
from codesign_kernel.telemetry import log
from codesign_kernel.telemetry.log import CUT, REQUEST_ID, STUBBORN, SUBJECT, Log, event, scrub, scrubbed
from codesign_kernel.telemetry.metrics import ERRORS, REFUSALS, ROUTES, SOURCES, Metrics
from codesign_kernel.telemetry.process import usage_of
from codesign_kernel.telemetry.trace import Tracer

SECRET = "s3cr3t-Value.77"


@pytest.mark.parametrize(
    "text",
    [
        f"GET /lab?token={SECRET} 200",
        f"GET /api/v1/jobs?x=1&y={SECRET}#here",
        f"https://host/login?next=%2F&code={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"authorization: token {SECRET}, accept: */*",
        f"{{'Authorization': 'Bearer {SECRET}', 'Host': 'a'}}",
        f"Cookie: _xsrf=2|a|b; username={SECRET}; x=y",
        f"Set-Cookie: codesign={SECRET}; HttpOnly",
        f"postgresql://codesign:{SECRET}@db/codesign cannot be reached",
        f"rediss://:{SECRET}@cache:6379/0",
        f"password={SECRET}",
        f'{{"password": "{SECRET}"}}',
        f"the new_password='{SECRET} and more'",
        f"api_key: {SECRET}",
        f"client_secret={SECRET}&grant=x",
        f"cpg_7f3a_{SECRET}",
        f"_xsrf={SECRET}",
    ],
)
def test_secrets_are_cut_out(text: str) -> None:
    told = scrub(text)
    assert SECRET not in told
    assert CUT in told


@pytest.mark.parametrize("text", ["12 tokens were counted", "GET /api/v1/jobs 200 3 ms", "why? nobody knows", "a / b"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert scrub(text) == text


def test_keys_that_name_a_secret_hide_their_value() -> None:
    given = {"password": 1, "name": "a", "deep": [{"Set-Cookie": "x"}], "metrics_token": "t", "token_id": "ab"}
    told = scrubbed(given)
    assert told == {"password": CUT, "name": "a", "deep": [{"Set-Cookie": CUT}], "metrics_token": CUT, "token_id": "ab"}
    assert len(scrub("x" * 100_000)) < 10_000


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_says_what_happened_in_which_request(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "gateway.log"
    tokens = REQUEST_ID.set("r-1"), SUBJECT.set("s-9")
    try:
        with Log(path) as log:
            log.hide("hunter2hunter2")
            event("request", route="/api/v1/jobs/{id}", status=200, ms=3.5, note="hunter2hunter2 é\n{}")
            event("quiet", level=logging.DEBUG)
    finally:
        REQUEST_ID.reset(tokens[0])
        SUBJECT.reset(tokens[1])
    (line,) = lines(path.read_text(encoding="utf-8"))
    assert (line["event"], line["level"], line["request_id"], line["subject"]) == ("request", "info", "r-1", "s-9")
    assert (line["route"], line["status"], line["ms"]) == ("/api/v1/jobs/{id}", 200, 3.5)
    assert line["note"] == f"{CUT} é\n{{}}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
    assert path.stat().st_mode & 0o777 == 0o600


def test_other_libraries_write_into_it_and_get_their_handlers_back(tmp_path: Path) -> None:
    path = tmp_path / "log"
    root = logging.getLogger()
    stubborn = logging.getLogger(STUBBORN[0])
    own = logging.StreamHandler()
    stubborn.addHandler(own)
    stubborn.propagate = False
    before = root.handlers[:], root.level
    try:
        with Log(path) as log:
            logging.getLogger("tornado.access").warning("403 GET /x?token=%s", SECRET)
            try:
                raise ValueError(f"password={SECRET}")
            except ValueError:
                logging.getLogger("tornado.application").exception("it failed")
            late = logging.getLogger("late")
            late.addHandler(own)
            log.adopt(late)
            late.warning("as well")
        assert stubborn.handlers == [own]
        assert not stubborn.propagate
        assert late.handlers == [own]
        assert (root.handlers, root.level) == before
    finally:
        stubborn.removeHandler(own)
        stubborn.propagate = True
        logging.getLogger("late").removeHandler(own)
    told = path.read_text()
    assert SECRET not in told
    assert len(lines(told)) == 3, told
    first, second, third = lines(told)
    assert (first["logger"], first["level"]) == ("tornado.access", "warning")
    assert second["error"] == "ValueError"
    assert "Traceback" in second["trace"]
    assert third["message"] == "as well"


def test_without_a_file_it_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with Log():
        event("started", port=8866)
    (line,) = lines(capsys.readouterr().err)
    assert (line["event"], line["port"]) == ("started", 8866)


def test_a_log_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "FILE_BYTES", 10_000)
    with Log(tmp_path / "log"):
        for number in range(1_000):
            event("request", number=number)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", *(f"log.{n}" for n in range(1, log.FILES + 1))]
    assert all(file.stat().st_size <= 10_000 and file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert lines((tmp_path / "log").read_text())[-1]["number"] == 999


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="the log goes to"):
        Log(tmp_path / "file" / "log")


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of what /metrics answers, as a scraper reads it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_what_happened_is_counted() -> None:
    metrics = Metrics(apps={"profiler"}, templates={"generic"}, kinds={"explore"}, version="1.2")
    metrics.request("/api/v1/jobs/{id}", "GET", 200, 0.02)
    metrics.request("/api/v1/jobs/{id}", "GET", 503, 0.02)
    metrics.job("explore", "done", 3.0)
    metrics.job("explore", "failed", 1.0)
    metrics.kernel("profiler", "started", 0.7)
    metrics.kernel("profiler", "died")
    metrics.app_opened("profiler")
    metrics.design("generic", 4_000, 2.0)
    metrics.refused("rate")
    metrics.websocket("in", "comm_msg")
    metrics.websocket("in", "execute_request", refused=True)
    metrics.websockets(2)
    metrics.websockets(-1)
    found = samples(metrics)
    jobs = (("method", "GET"), ("route", "/api/v1/jobs/{id}"))
    assert found["codesign_request_seconds_count", (*jobs, ("status", "2xx"))] == 1
    assert found["codesign_request_seconds_sum", (*jobs, ("status", "5xx"))] == 0.02
    assert found["codesign_errors_total", (("where", "request"),)] == 1
    assert found["codesign_errors_total", (("where", "job"),)] == 1
    assert found["codesign_errors_total", (("where", "kernel"),)] == 1
    assert found["codesign_jobs_ended_total", (("kind", "explore"), ("state", "done"))] == 1
    assert found["codesign_job_seconds_sum", (("kind", "explore"),)] == 4
    assert found["codesign_kernel_start_seconds_count", (("app", "profiler"),)] == 1
    assert found["codesign_app_opened_total", (("app", "profiler"),)] == 1
    assert found["codesign_designs_total", (("template", "generic"),)] == 4_000
    assert found["codesign_design_seconds_total", (("template", "generic"),)] == 2
    assert found["codesign_refusals_total", (("why", "rate"),)] == 1
    assert found["codesign_refusals_total", (("why", "message"),)] == 1
    assert found["codesign_open_websockets", ()] == 1
    assert any(name == "codesign_build_info" and ("version", "1.2") in labels for name, labels in found)


def test_what_never_happened_is_there_as_zero() -> None:
    """A rate over a counter that appears with its first event misses that event."""
    found = samples(Metrics())
    assert {labels[0][1] for name, labels in found if name == "codesign_refusals_total"} == set(REFUSALS)
    assert {labels[0][1] for name, labels in found if name == "codesign_errors_total"} == set(ERRORS)


def test_no_text_of_a_person_becomes_a_label() -> None:
    metrics = Metrics(apps={"profiler"})
    secret = "Ada Lovelace"
    metrics.request(f"/people/{secret}", "GET", 200, 0.1)
    metrics.request("/x", secret, 200, 0.1)
    metrics.job(secret, secret, 1)
    metrics.kernel(secret, secret, 1)
    metrics.app_opened(secret)
    metrics.design(secret, 1, 1)
    metrics.refused(secret)
    metrics.error(secret)
    metrics.websocket(secret, secret)
    metrics.source("kernels", lambda: [{"app": secret, "state": secret, "cpu_s": 1.0, "memory_bytes": 5}])
    assert secret not in metrics.text().decode()
    for number in range(ROUTES + 50):
        metrics.request(f"/guess/{number}", "GET", 404, 0.1)
    routes = {
        dict(labels).get("route") for name, labels in samples(metrics) if name == "codesign_request_seconds_count"
    }
    assert len(routes) <= ROUTES + 1
    assert "other" in routes


def test_sources_are_asked_at_each_scrape() -> None:
    metrics = Metrics(apps={"profiler"})
    cache = Cache([MemoryTier(1_000)], Breaker)
    cache.put("a" * 64, b"x")
    cache.get("a" * 64)
    cache.get("b" * 64)
    counts = {"queued": 3, "running": 1}
    metrics.source("cache", cache.health)
    metrics.source("jobs", lambda: counts)
    metrics.source("breakers", lambda: {"cache memory": "open"})
    metrics.source("trips", lambda: {"cluster": 3})
    metrics.source(
        "kernels",
        lambda: [
            {"app": "profiler", "state": "running", "cpu_s": 2.0, "memory_bytes": 10},
            {"app": "profiler", "state": "warm", "cpu_s": None, "memory_bytes": 5},
        ],
    )
    found = samples(metrics)
    assert found["codesign_cache_requests_total", (("result", "hits"), ("tier", "memory"))] == 1
    assert found["codesign_cache_requests_total", (("result", "misses"), ("tier", "memory"))] == 1
    assert found["codesign_breaker_state", (("what", "cache memory"),)] == 2
    assert found["codesign_breaker_trips_total", (("what", "cluster"),)] == 3
    assert found["codesign_jobs", (("state", "queued"),)] == 3
    assert found["codesign_kernels", (("app", "profiler"), ("state", "warm"))] == 1
    assert found["codesign_kernels_memory_bytes", ()] == 15
    counts["queued"] = 0
    assert samples(metrics)["codesign_jobs", (("state", "queued"),)] == 0
    assert metrics.snapshot()['codesign_jobs{state="running"}'] == 1


def test_a_source_that_fails_leaves_the_others_there(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()

    def fails() -> dict[str, int]:
        raise StoreError("the database is away")

    metrics.source("people", fails)
    metrics.source("workers", lambda: 4)
    found = samples(metrics)
    assert found["codesign_source_up", (("source", "people"),)] == 0
    assert found["codesign_source_up", (("source", "workers"),)] == 1
    assert found["codesign_cluster_workers", ()] == 4
    assert "the database is away" in caplog.text
    with pytest.raises(InvalidInputError, match=", ".join(SOURCES)):
        metrics.source("weather", lambda: 1)


def test_what_a_process_uses_is_measured() -> None:
    own = usage_of(os.getpid())
    assert own.cpu_s > 0
    assert 1 << 20 < own.memory_bytes < 64 << 30
    # below a process of the test's own: servers that tests share come and go below this one
    child = "subprocess.Popen([sys.executable, '-c', 'input()'])"
    code = f"import subprocess, sys; child = {child}; print(1, flush=True); child.wait()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline()
        both = usage_of(parent.pid, tree=True)
        alone = usage_of(parent.pid)
        parent.communicate(b"\n")
    assert (both.processes, alone.processes) == (2, 1)
    assert usage_of(parent.pid).processes == 0


def test_a_trace_goes_on_from_the_request_into_the_job() -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import StatusCode

    exporter = InMemorySpanExporter()
    tracer = Tracer(exporter=exporter, version="1.2")
    came = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with tracer.span("/api/v1/jobs", parent=came, status=202, note=f"token={SECRET}"):
        carried = tracer.carried()
        with tracer.span("kernel start"):
            pass
    with tracer.span("job explore", parent=carried):
        pass
    request = tracer.begin("request", {"traceparent": "nonsense"})
    assert carried["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert tracer.carried(request)["traceparent"] != carried["traceparent"]
    tracer.end(request, failed=True, name="/api/v1/me", status=500)
    tracer.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"kernel start", "/api/v1/jobs", "job explore", "/api/v1/me"}
    first = spans["/api/v1/jobs"]
    assert first.parent.span_id == 0xB7AD6B7169203331
    assert spans["kernel start"].parent.span_id == first.context.span_id
    assert spans["job explore"].parent.span_id == first.context.span_id
    assert spans["job explore"].context.trace_id == first.context.trace_id
    assert SECRET not in str(first.attributes)
    assert first.resource.attributes["service.version"] == "1.2"
    assert spans["/api/v1/me"].status.status_code is StatusCode.ERROR
    assert spans["/api/v1/me"].context.trace_id != first.context.trace_id


def test_without_an_endpoint_nothing_is_traced() -> None:
    tracer = Tracer()
    assert not tracer.on
    with tracer.span("x", parent={}) as span:
        assert span is None
    tracer.end(tracer.begin("x"))
    assert tracer.carried() == {}
    tracer.close()


def test_an_endpoint_without_the_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingPackageError, match=r"\[trace\]"):
        Tracer("http://127.0.0.1:4318/v1/traces")
