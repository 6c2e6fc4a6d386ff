"""Console: what runs on a gateway, how it is, and what happened on it, for who operates it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.units import quantity
from codesign_widgets.page import Page, script_of, style_of

#: Label -> how far back the audit trail is shown.
SPANS = {"Everything": "", "The last hour": "1h", "The last day": "1d", "The last week": "7d"}
#: What each part is called, and what it is for.
PARTS = {
    "database": ("Database", "people, jobs, results"),
    "cache": ("Cache", "results that were worked out before"),
    "cluster": ("Cluster", "workers of long explorations"),
    "simulators": ("Simulators", "run generated RTL"),
    "sandbox": ("Sandbox", "keeps kernels apart"),
    "data": ("Disk", "where everything is kept"),
    "audit": ("Audit trail", "who did what"),
    "jobs": ("Jobs", "the queue of work"),
    "kernels": ("Kernels", "processes of visitors"),
    "rates": ("Rate limits", "who may ask how often"),
}
BREAKERS = {"closed": "in use", "half-open": "being tried again", "open": "left alone after failures"}
#: (title, its series, what turns a value into words) of the small pictures.
PLOTS: tuple[tuple[str, tuple[tuple[str, str], ...], Callable[[float], str]], ...] = (
    ("Requests", (("requests", "all"), ("errors", "errors")), lambda value: f"{value:.3g} /s"),
    ("Time to answer", (("latency_s", "mean"),), lambda value: quantity(value, "s")),
    ("Designs", (("designs", "evaluated"),), lambda value: f"{value:,.0f} /s"),
    ("Memory", (("memory_bytes", "server"), ("kernels_memory_bytes", "kernels")), lambda value: quantity(value, "B")),
)
_ACTIONS = ("look", "stop_kernel", "stop_job", "verify")


class Operated(Protocol):
    """What is looked at and acted on; every answer is plain data, as the gateway's REST API gives it.

    Attributes:
        acts: whether something can be stopped and verified.
        where: a sentence that says what is looked at; "" for a gateway.
    """

    acts: bool
    where: str

    def look(self) -> Mapping[str, Any]: ...
    def stop_kernel(self, kernel: str) -> Any: ...
    def stop_job(self, job: str) -> Any: ...
    def audit(self, event: str, who: str, since: str) -> Mapping[str, Any]: ...
    def verify(self) -> Mapping[str, Any]: ...


class Console(Page):
    """The page of an operator. It asks again every ten seconds while somebody looks.

    Args:
        operated: a gateway, or what can be seen without one.
    """

    _esm = script_of("console.js")
    _css = style_of("console.css", "ckx-console")

    def __init__(self, operated: Operated) -> None:
        super().__init__()
        self._operated = operated
        self.setup = {"spans": list(SPANS), "acts": operated.acts, "where": operated.where}
        self.tell(0, {"do": "look"})

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        do = asked.get("do", "look")
        if do not in _ACTIONS:
            raise InvalidInputError(f"a console can {', '.join(_ACTIONS)}, but got {str(do)[:40]!r}")
        event, who, span = (_text(asked, name) for name in ("event", "who", "span"))
        if span not in ("", *SPANS):
            raise InvalidInputError(f"the times to look back are {', '.join(SPANS)}, but got {span[:40]!r}")
        said = self._done(do, _text(asked, "id"))
        seen = self._operated.look()
        filtered = bool(event or who or SPANS.get(span))
        audit = self._operated.audit(event, who, SPANS.get(span, "")) if filtered else seen.get("audit", {})
        return {
            "said": said,
            "at": f"{seen['at'][11:19]} UTC",
            "tiles": _tiles(seen),
            "parts": _parts(seen["health"]),
            "plots": _plots(seen.get("series", {})),
            "kernels": [_kernel(one) for one in seen.get("kernels", ())],
            "jobs": [_job(one) for one in seen.get("jobs", {}).get("jobs", ())],
            "audit": [_entry(one) for one in audit.get("entries", ())],
            "events": sorted(audit.get("events", {})),
            "lines": f"{audit.get('lines', 0):,}",
        }

    def _done(self, do: str, one: str) -> dict[str, str]:
        """Do what was asked; {"text", "state"} to tell."""
        if do == "look":
            return {}
        if not self._operated.acts:
            raise InvalidInputError(f"nothing can be stopped or verified here: {self._operated.where}")
        if do == "verify":
            report = self._operated.verify()
            if report["intact"]:
                return {"state": "good", "text": f"✓ The audit trail is as it was written: {report['lines']:,} lines."}
            place = f"{report['file']}, line {report['line']:,}" if report["line"] else report["file"]
            told = f"✕ The audit trail was tampered with ({report['problem']}): {place}: {report['text']}."
            return {"state": "bad", "text": told}
        if not one:
            raise InvalidInputError(f"{do} needs the id of one, but got none; press the button of its row")
        (self._operated.stop_kernel if do == "stop_kernel" else self._operated.stop_job)(one)
        return {"state": "good", "text": f"✓ The {do.removeprefix('stop_')} {one[:8]} was stopped."}

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        return "audit" if "look back" in message else ""


def _text(asked: Mapping[str, Any], name: str) -> str:
    """A short text of a question.

    Raises:
        InvalidInputError: it is none.
    """
    given = asked.get(name, "")
    if not isinstance(given, str) or len(given) > 64:
        raise InvalidInputError(f"{name} is a text of at most 64 characters, but got {str(given)[:40]!r}")
    return given


def _tiles(seen: Mapping[str, Any]) -> list[dict[str, str]]:
    """The key figures."""
    health, people, series = seen["health"], seen.get("people", {}), seen.get("series", {})
    failing = [PARTS.get(name, (name,))[0] for name, found in health["parts"].items() if not found["ok"]]
    ready = "Ready" if health["ready"] else "Not ready"
    tiles = [
        {
            "label": "Gateway",
            "value": ready if not failing else f"{ready}, look below",
            "note": f"up for {_span(health['up_s'])}" if not failing else ", ".join(failing),
            "state": "good" if not failing else "warning" if health["ready"] else "bad",
        }
    ]
    if kernels := health["parts"].get("kernels"):
        note = f"{kernels['warm']} warm, {kernels['most']} at most"
        tiles.append({"label": "Kernels in use", "value": str(kernels["running"]), "note": note})
    if "states" in seen.get("jobs", {}):
        states = seen["jobs"]["states"]
        note = f"{states.get('queued', 0):,} wait"
        tiles.append({"label": "Jobs that run", "value": f"{states.get('running', 0):,}", "note": note})
    if people:
        note = f"{people['sessions']:,} signed in, {people['people']:,} known"
        tiles.append({"label": "People active", "value": f"{people['active']:,}", "note": note})
    if asked := series.get("requests"):
        answered = [value for value in series.get("latency_s", ()) if value is not None]
        note = f"answered in {quantity(answered[-1], 's')}" if answered else "none just now"
        tiles.append({"label": "Requests", "value": f"{asked[-1]:.3g} /s", "note": note})
    return tiles


def _parts(health: Mapping[str, Any]) -> list[dict[str, str]]:
    """The cards: each part, whether it works, and its breakers."""
    cards = []
    for name, found in health["parts"].items():
        title, purpose = PARTS.get(name, (name.capitalize(), ""))
        about = found.get("detail") or _facts(name, found) or purpose
        breakers = [
            f"{what.removeprefix('cache ')}: {BREAKERS.get(state, state)}"
            for what, state in health.get("breakers", {}).items()
            if what.split()[0] == name
        ]
        state = "bad" if not found["ok"] else "warning" if found.get("detail") and name == "data" else "good"
        word = {"bad": "✕ Needs a look", "warning": "! Soon", "good": "✓ Works"}[state]
        cards.append({"title": title, "state": state, "word": word, "about": about, "breakers": "; ".join(breakers)})
    return cards


def _facts(name: str, found: Mapping[str, Any]) -> str:
    """What a finding holds, in words."""
    told = {
        "database": lambda: f"{found['kind']}, schema {found['schema']}",
        "cache": lambda: _hits(found["tiers"]),
        "simulators": lambda: ", ".join(found["here"]),
        "sandbox": lambda: str(found["kind"]),
        "data": lambda: f"{quantity(found['free_bytes'], 'B')} of {quantity(found['total_bytes'], 'B')} free",
        "audit": lambda: f"{found['lines']:,} lines",
        "jobs": lambda: (
            ", ".join(f"{count:,} {state}" for state, count in found.get("states", {}).items()) or "none yet"
        ),
        "kernels": lambda: f"{found['running']} in use, {found['warm']} warm",
        "rates": lambda: f"counted in {'Redis' if found['counted_in'] == 'redis' else 'this process'}",
    }
    return told[name]() if name in told else ""


def _hits(tiers: Mapping[str, Mapping[str, Any]]) -> str:
    asked = {tier: about["hits"] + about["misses"] for tier, about in tiers.items()}
    return ", ".join(
        f"{tier} {tiers[tier]['hits'] / count:.0%} of {count:,} found" if count else f"{tier} not asked yet"
        for tier, count in asked.items()
    )


def _plots(series: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The small pictures: their lines as numbers, and what they say in words."""
    at: Sequence[float] = series.get("at", ())
    if len(at) < 2:
        return []
    minutes = max(1, round((at[-1] - at[0]) / 60))
    shown = []
    for title, names, words in PLOTS:
        lines = [{"name": label, "values": series.get(name, [])} for name, label in names]
        known = {line["name"]: [value for value in line["values"] if value is not None] for line in lines}
        if not any(known.values()):
            continue
        most = max(max(values) for values in known.values() if values)
        now = "; ".join(f"{label} {words(values[-1])}" for label, values in known.items() if values)
        alt = f"{title} of the last {minutes} min: now {now}; at most {words(most)}."
        last = next(values[-1] for values in known.values() if values)
        shown.append({"title": title, "now": words(last), "most": words(most), "alt": alt, "lines": lines, "top": most})
    return shown


def _span(seconds: float) -> str:
    """A time that passed, as people say it."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def _kernel(one: Mapping[str, Any]) -> dict[str, str]:
    return {
        "id": one["id"],
        "app": one["app"],
        "owner": one["owner"][:8] or "nobody yet",
        "state": one["state"],
        "age": _span(one["age_s"]),
        "idle": "–" if one["idle_s"] is None else _span(one["idle_s"]),
        "cpu": "–" if one["cpu_s"] is None else _span(one["cpu_s"]),
        "memory": "–" if one["memory_bytes"] is None else quantity(one["memory_bytes"], "B"),
    }


def _job(one: Mapping[str, Any]) -> dict[str, str]:
    return {
        "id": one["id"],
        "kind": one["kind"],
        "owner": one["owner"][:8],
        "state": one["state"],
        "done": f"{one.get('done') or 0:.0%}",
        "message": str(one.get("message") or "")[:200],
        "open": "yes" if one["state"] in ("queued", "running") else "",
    }


def _entry(one: Mapping[str, Any]) -> dict[str, str]:
    data = {key: value for key, value in one["data"].items() if key != "request_id"}
    words = ", ".join(f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in data.items())
    return {
        "n": f"{one['n']:,}",
        "time": one["time"][:19].replace("T", " "),
        "event": one["event"].replace("_", " "),
        "who": one["who"][:8] or "–",
        "data": words[:300],
    }
