"""The tables of docs/operate.md, from the code: ``python docs/operate.py`` brings them up to date."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import Metric

from codesign_kernel.telemetry.audit import EVENTS
from codesign_kernel.telemetry.metrics import Metrics

PAGE = Path(__file__).with_name("operate.md")
_TIER = {"state": "closed", "hits": 0, "misses": 0, "errors": 0, "skipped": 0, "trips": 0}
#: What each source of the metrics could say, so that its metrics show.
_ANSWERS = {
    "cache": {"memory": _TIER},
    "breakers": {"cache memory": "closed"},
    "trips": {"cache memory": 0},
    "kernels": [],
    "process": {"cpu_s": 0.0, "memory_bytes": 0},
    "jobs": {},
    "people": {"active": 0, "sessions": 0},
    "workers": 0,
    "audit": 0,
    "disk": {"free_bytes": 0, "total_bytes": 0},
}


def families() -> list[Metric]:
    """Every metric that there is, by name."""
    metrics = Metrics({"app"}, {"template"}, {"kind"}, "0")
    metrics.request("/", "GET", 200, 0)
    metrics.job("kind", "done")
    metrics.kernel("app", "started", 0)
    metrics.app_opened("app")
    metrics.design("template", 0, 0)
    metrics.websocket("in", "comm_msg")
    for name, answer in _ANSWERS.items():
        metrics.source(name, lambda answer=answer: answer)
    return sorted(metrics.registry.collect(), key=lambda family: str(family.name))


def metrics_table() -> str:
    """One row a metric."""
    rows = ["| metric | kind | labels | what |", "|---|---|---|---|"]
    for family in families():
        labels = sorted({name for sample in family.samples for name in sample.labels} - {"le"})
        if family.name == "codesign_kernels":
            labels = ["app", "state"]
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append(f"| `{name}` | {family.type} | {', '.join(labels) or '–'} | {family.documentation} |")
    return "\n".join(rows)


def events_table() -> str:
    """One row an event of the audit trail."""
    return "\n".join(
        ["| event | what it says |", "|---|---|", *(f"| `{name}` | {says} |" for name, says in EVENTS.items())]
    )


def renewed(text: str) -> str:
    """The page with its tables as the code has them now."""
    for name, table in (("metrics", metrics_table()), ("events", events_table())):
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        assert pattern.search(text), f"docs/operate.md has no place for {name}"
        text = pattern.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
    return text


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
