"""WorkflowResult: which steps ran, which were there, and what they gave; read from the store where it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.session.workflow.product import Kept
from codesign_kernel.store import Record, Store
from codesign_kernel.units import quantity

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from codesign_kernel.cosim import CosimReport
    from codesign_kernel.design import Design
    from codesign_kernel.explore import Exploration
    from codesign_kernel.optimize import IntegerNetwork
    from codesign_kernel.profiler import Profile
    from codesign_kernel.rtl import RtlBundle

Result = TypeVar("Result")


@dataclass(frozen=True)
class StepResult:
    """One step of a run or of a plan.

    Attributes:
        name, key: of the step; the digest of its settings, inputs and version (empty where an input is not known yet).
        state: "ran" or "cached"; of a plan "cached", "runs" or "follows".
        seconds: that it took now. took_s: that it took when it was made.
        told: what it gave, in words.
        record: of what it gave.
        evaluated: designs (of ``co_optimize``: networks) evaluated now.
    """

    name: str
    key: str
    state: str
    seconds: float = 0.0
    took_s: float = 0.0
    told: str = ""
    record: Record | None = field(default=None, repr=False)
    evaluated: int = 0

    @property
    def cached(self) -> bool:
        """It was taken from the store."""
        return self.state == "cached"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        own = {name: getattr(self, name) for name in ("name", "key", "state", "seconds", "took_s", "evaluated")}
        made = None if self.record is None else {"kind": self.record.kind, "digest": self.record.digest}
        return {**own, "product": made, "gave": None if self.record is None else self.record.data}


@dataclass(frozen=True)
class WorkflowResult(Shown):
    """A run of a workflow, or the plan of one. ``str`` of it is a table.

    What the steps gave is read from the store when it is asked for; of a step that is not part of the workflow, or has
    not run, it is an InvalidInputError.

    Attributes:
        name: of the workflow.
        steps: in the order in which they run.
        store: where results are: a Store, its path or URL; None for the user's own.
    """

    name: str
    steps: tuple[StepResult, ...]
    store: Store | str | os.PathLike[str] | None = field(default=None, repr=False)

    @property
    def evaluations(self) -> int:
        """Designs (of ``co_optimize``: networks) evaluated in this run."""
        return sum(step.evaluated for step in self.steps)

    @property
    def ran(self) -> tuple[str, ...]:
        """The steps that were not cached."""
        return tuple(step.name for step in self.steps if not step.cached)

    @property
    def passed(self) -> bool:
        """No co-simulation found a difference."""
        checked = self._records().get("cosimulate")
        return checked is None or bool(checked.data["passed"])

    @property
    def profile(self) -> Profile:
        """Of the network as it was given."""
        from codesign_kernel.session.workflow.kept import profile_of

        return self._read("profile", lambda kept: profile_of(kept.file("profile", "profile.json")))

    @property
    def network(self) -> IntegerNetwork:
        """In integers: of ``optimise``, or of the pair that was chosen."""
        step = "choose" if any(step.name == "co_optimize" for step in self.steps) else "optimise"
        return self._read(step, lambda kept: kept.network)

    @property
    def exploration(self) -> Exploration:
        """As :func:`codesign_kernel.explore` gave it."""
        from codesign_kernel.session.workflow.searching import exploration_of

        return self._read("explore", exploration_of)

    @property
    def front(self) -> pd.DataFrame:
        """The rows that no other design, or pair of a network and a design, dominates."""
        if not any(step.name == "co_optimize" for step in self.steps):
            return self.exploration.front
        from codesign_kernel.session.workflow.kept import frame_of

        return self._read("co_optimize", lambda kept: frame_of(kept.file("co_optimize", "front.npz")))

    @property
    def design(self) -> Design:
        """The one that was chosen."""
        return self._read("choose", lambda kept: kept.design)

    @property
    def bundle(self) -> RtlBundle:
        """The generated sources."""
        return self._read("generate", lambda kept: kept.bundle)

    @property
    def report(self) -> CosimReport:
        """Of the co-simulation."""
        from codesign_kernel.session.workflow.kept import report_of

        return self._read(
            "cosimulate", lambda kept: report_of(*(kept.file("cosimulate", n) for n in ("cosim.json", "outputs.npz")))
        )

    @property
    def page(self) -> str:
        """The whole walk as HTML."""
        return self._read("report", lambda kept: kept.file("report", "report.html").decode())

    def files(self) -> dict[str, bytes]:
        """What is worth a folder: {path: content}."""
        wanted = {
            "explore": {"front.csv": "front.csv"},
            "co_optimize": {"front.csv": "front.csv"},
            "optimise": {"network.npz": "network.npz"},
            "cosimulate": {"cosim.json": "cosim.json"},
            "report": {"report.html": "report.html"},
        }
        records = self._records()
        if "co_optimize" in records:
            wanted["choose"] = {"network.npz": "network.npz"}
        if "generate" in records:
            wanted["generate"] = {name: f"rtl/{name}" for name in records["generate"].files}

        def read(kept: Kept) -> dict[str, bytes]:
            return {
                path: kept.file(step, name)
                for step, names in wanted.items()
                if step in records
                for name, path in names.items()
            }

        return self._with(read)

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write :meth:`files` and ``workflow.json`` into ``folder``, all of them or none.

        Raises:
            OutputError: it cannot be written.
        """
        import json
        from pathlib import Path

        from codesign_kernel.files import write_folder

        told = json.dumps(self.to_dict(), indent=2) + "\n"
        return write_folder(Path(folder), {**self.files(), "workflow.json": told})

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "workflow": self.name,
            "evaluations": self.evaluations,
            "passed": self.passed,
            "steps": [step.to_dict() for step in self.steps],
        }

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(step, state, time, what it gave): of what is cached the time that it took when it was made."""
        return [(step.name, step.state, _seconds(step), step.told) for step in self.steps]

    def __str__(self) -> str:
        rows = [("step", "state", "time", "gave"), *self.rows()]
        widths = [max(len(row[place]) for row in rows) for place in range(3)]
        lines = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows]
        return "\n".join([f"{self.name}: {self.evaluations:,} evaluations now", *lines])

    def _records(self) -> dict[str, Record]:
        return {step.name: step.record for step in self.steps if step.record is not None}

    def _read(self, step: str, read: Callable[[Kept], Result]) -> Result:
        records: Mapping[str, Record] = self._records()
        if step not in records:
            known = ", ".join(records) or "none"
            raise InvalidInputError(f"a result is of a step that ran ({known}), but {step!r} did not; run it")
        return self._with(read)

    def _with(self, read: Callable[[Kept], Result]) -> Result:
        if isinstance(self.store, Store):
            return read(Kept(self.store, self._records()))
        with Store(self.store) as shelf:
            return read(Kept(shelf, self._records()))


def _seconds(step: StepResult) -> str:
    if step.record is None:
        return ""
    return quantity(step.took_s if step.cached else step.seconds, "s")
