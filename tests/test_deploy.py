"""What deploy/ holds is right: settings load, rules and panels ask for metrics that there are."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from codesign_kernel.server.app import BODY_BYTES, UPLOAD_BYTES
from codesign_kernel.server.settings import read_settings
from codesign_kernel.telemetry.metrics import ERRORS, KERNEL_EVENTS, REFUSALS, SOURCES, Metrics

promql = pytest.importorskip("promql_parser")
yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
SCOPES = ROOT / "codesign_kernel" / "server" / "data"
#: Written by Prometheus itself.
PROMETHEUS = {"up"}
#: What the panels must show, by the words of their titles.
WANTED = (
    "requests", "time to answer", "broke", "designs", "cache hits", "processor", "memory", "kernels", "jobs",
    "completion rate", "people", "popular apps", "popular templates", "refusals", "websockets", "workers", "breakers",
)  # fmt: skip


@pytest.fixture(scope="module")
def there() -> dict[str, set[str]]:
    """{sample: its labels} of what /metrics answers where everything has happened."""
    metrics = Metrics({"profiler"}, {"generic"}, {"explore"}, "1")
    metrics.request("/x", "GET", 200, 0.1)
    metrics.job("explore", "done", 1)
    metrics.kernel("profiler", "started", 1)
    metrics.app_opened("profiler")
    metrics.design("generic", 1, 1)
    metrics.websocket("in", "comm_msg")
    tier = {"state": "closed", "hits": 1, "misses": 1, "errors": 0, "skipped": 0, "trips": 0}
    answers: dict[str, Any] = {
        "cache": {"memory": tier}, "breakers": {"cache memory": "closed"}, "trips": {"cache memory": 0},
        "kernels": [{"app": "profiler", "state": "running"}], "process": {"cpu_s": 1.0, "memory_bytes": 1},
        "jobs": {"queued": 0}, "people": {"active": 1, "sessions": 1}, "workers": 0, "audit": 1,
        "disk": {"free_bytes": 1, "total_bytes": 2},
    }  # fmt: skip
    assert set(answers) == set(SOURCES)
    for name, answer in answers.items():
        metrics.source(name, lambda answer=answer: answer)
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def selectors(tree: Any) -> list[Any]:
    """Every selector of a parsed expression."""
    if isinstance(tree, promql.VectorSelector):
        return [tree]
    found = []
    for name in ("expr", "lhs", "rhs", "param", "vector_selector", "args"):
        child = getattr(tree, name, None)
        for one in child if isinstance(child, list) else [child]:
            if one is not None and not isinstance(one, (str, int, float)):
                found += selectors(one)
    return found


def check(expression: str, there: dict[str, set[str]]) -> None:
    """The expression parses, and each metric and label that it names is there."""
    tree = promql.parse(expression)
    asked = selectors(tree)
    assert asked, expression
    for one in asked:
        assert one.name in there or one.name in PROMETHEUS, f"no metric {one.name} in {expression}"
        known = {"job", "instance"} | there.get(one.name, set())
        for matcher in one.matchers.matchers:
            assert matcher.name in known, f"{one.name} has no label {matcher.name}: {expression}"
    labels = set().union(*(there.get(one.name, set()) for one in asked))
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {name.strip() for name in grouped.split(",")} <= labels, expression


def rules() -> list[dict[str, Any]]:
    told = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    return [rule for group in told["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_can_fire_and_says_what_to_do(rule: dict[str, Any], there: dict[str, set[str]]) -> None:
    check(rule["expr"], there)
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert re.fullmatch(r"\d+m", rule["for"])
    assert len(rule["annotations"]["summary"]) > 10
    file, _, anchor = rule["annotations"]["runbook"].partition("#")
    heads = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {head.lower().replace(" ", "-") for head in heads}


def test_the_words_in_rules_are_words_of_the_metrics() -> None:
    known = {"why": REFUSALS, "where": ERRORS, "event": KERNEL_EVENTS}
    for rule in rules():
        for label, _, words in re.findall(r'\b(why|where|event)(=~?)"([^"]+)"', rule["expr"]):
            assert set(words.split("|")) <= set(known[label]), rule["alert"]


def panels() -> list[dict[str, Any]]:
    return list(json.loads((DEPLOY / "grafana" / "codesign.json").read_text())["panels"])


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_draws_what_there_is(panel: dict[str, Any], there: dict[str, set[str]]) -> None:
    assert panel["description"]
    for target in panel["targets"]:
        check(target["expr"], there)


def test_the_dashboard_shows_everything_and_nothing_lies_on_another() -> None:
    titles = " | ".join(panel["title"].lower() for panel in panels())
    assert [word for word in WANTED if word not in titles] == []
    places = [tuple(panel["gridPos"][name] for name in ("x", "y", "w", "h")) for panel in panels()]
    for x, y, w, h in places:
        assert x + w <= 24
        covered = [
            one for one in places if one[0] < x + w and x < one[0] + one[2] and one[1] < y + h and y < one[1] + one[3]
        ]
        assert len(covered) == 1
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_checks_can_fail(there: dict[str, set[str]]) -> None:
    for wrong in (
        "sum(rate(codesign_nothing_total[5m]))",
        'codesign_jobs{people="x"}',
        "sum by (person) (codesign_jobs)",
        "sum(rate(codesign_jobs_ended_total[5m])",
    ):
        with pytest.raises((AssertionError, ValueError)):
            check(wrong, there)


@pytest.mark.parametrize("name", ["gateway.toml", "compose.toml"])
def test_settings_load(name: str) -> None:
    settings = read_settings(DEPLOY / name)
    assert settings.identity == "password"
    assert not settings.accept_no_sandbox
    assert settings.public_url.startswith("https://")
    text = (DEPLOY / name).read_text()
    assert not re.search(r"password\s*=|://[^/@\s\"]+:[^/@\s\"]+@", text), "secrets are in files of their own"
    assert tomllib.loads(text)["metrics_token_file"]


def test_prometheus_asks_where_the_gateway_answers() -> None:
    for name in ("prometheus.yml", "compose.yml"):
        told = yaml.safe_load((DEPLOY / "prometheus" / name).read_text())
        (job,) = told["scrape_configs"]
        assert (job["job_name"], job["metrics_path"]) == ("codesign", "/metrics")
        assert job["static_configs"][0]["targets"][0].endswith(f":{read_settings().port}")
        assert told["rule_files"] == ["alerts.yml"]


def test_compose_holds_together() -> None:
    told = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(told["services"]) == {"proxy", "gateway", "postgres", "redis", "prometheus", "grafana"}
    gateway = told["services"]["gateway"]
    assert gateway["cap_drop"] == ["ALL"]
    assert "ports" not in gateway, "only the proxy reaches it"
    assert (DEPLOY.parent / gateway["build"]["dockerfile"]).is_file()
    for service in told["services"].values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith("./") else source in told["volumes"]
        assert set(service.get("secrets", ())) <= set(told["secrets"])
        assert set(service.get("networks", ())) <= set(told["networks"])
    proxy = told["services"]["proxy"]["networks"]["front"]["ipv4_address"]
    assert read_settings(DEPLOY / "compose.toml").trusted_proxies == (proxy,)
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "compose.yml").read_text())["scrape_configs"][0]
    assert scrape["static_configs"][0]["targets"] == [f"{gateway['networks']['back']['ipv4_address']}:8866"]


def test_every_proxy_says_itself_what_the_gateway_believes_of_it() -> None:
    """What a visitor sends in these headers does not get through."""
    for name in ("Caddyfile", "compose.Caddyfile"):
        lines = [line.split() for line in (DEPLOY / name).read_text().splitlines()]
        assert ["header_up", "X-Forwarded-For", "{remote_host}"] in lines, name
        assert ["header_up", "X-Request-ID", "{http.request.uuid}"] in lines, name
    lines = [line.split() for line in (DEPLOY / "nginx" / "codesign.conf").read_text().splitlines()]
    assert ["proxy_set_header", "X-Forwarded-For", "$remote_addr;"] in lines
    assert ["proxy_set_header", "X-Request-ID", "$request_id;"] in lines


def test_the_unit_is_hardened() -> None:
    lines = [line for line in (DEPLOY / "codesign.service").read_text().splitlines() if "=" in line and line[0] != "#"]
    unit = dict(line.split("=", 1) for line in lines)
    assert "codesign serve --config" in unit["ExecStart"]
    assert unit["NoNewPrivileges"] == unit["ProtectHome"] == unit["PrivateTmp"] == "yes"
    assert unit["ProtectSystem"] == "strict"
    assert unit["CapabilityBoundingSet"] == ""
    assert unit["User"] != "root"
    # what the gateway's own walls are made of is not taken from it; systemd before 254 knows no @sandbox
    walls = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"}
    assert walls <= set(unit["SystemCallFilter"].split())
    assert "RestrictNamespaces" not in unit


def test_the_unit_may_write_where_the_settings_say() -> None:
    lines = [line for line in (DEPLOY / "codesign.service").read_text().splitlines() if "=" in line and line[0] != "#"]
    unit = dict(line.split("=", 1) for line in lines)
    states = [Path("/var/lib", name) for name in unit["StateDirectory"].split()]
    assert states == [Path(name) for name in unit["ReadWritePaths"].split()]
    settings = read_settings(DEPLOY / "gateway.toml")
    assert settings.data_dir in states
    assert settings.keys.parent in states, "the gateway makes its keys, and renews them"
    assert settings.data_dir not in settings.keys.parents, "a copy of the data is none of the keys"
    manual = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    assert f"-d -m 0700 -o codesign -g codesign {settings.keys.parent}" in manual
    assert f"/dev/stdin {settings.metrics_token_file}" in manual


def test_what_the_gateway_takes_passes_the_proxies() -> None:
    nginx, waf = ((DEPLOY / "nginx" / name).read_text() for name in ("codesign.conf", "modsecurity.conf"))
    (size,) = re.findall(r"client_max_body_size (\d+)m;", nginx)
    assert int(size) << 20 > UPLOAD_BYTES
    limits = {name: int(value) for name, value in re.findall(r"SecRequestBody(Limit|NoFilesLimit) (\d+)", waf)}
    assert limits["Limit"] >= int(size) << 20
    assert limits["NoFilesLimit"] >= BODY_BYTES
    for name in ("Caddyfile", "compose.Caddyfile"):
        (size,) = re.findall(r"max_size (\d+)MiB", (DEPLOY / name).read_text())
        assert int(size) << 20 > UPLOAD_BYTES
    for scope in SCOPES.glob("api_*.toml"):
        assert tomllib.loads(scope.read_text(encoding="utf-8"))["limits"]["upload_bytes"] <= UPLOAD_BYTES, scope.name


def test_the_tables_of_the_manual_are_up_to_date() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("operate", ROOT / "docs" / "operate.py")
    assert spec is not None
    assert spec.loader is not None
    operate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(operate)
    text = operate.PAGE.read_text(encoding="utf-8")
    assert operate.renewed(text) == text, "run `python docs/operate.py`"
    for family in operate.families():
        assert f"`{family.name}" in text
