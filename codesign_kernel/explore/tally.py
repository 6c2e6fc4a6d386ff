"""Counting what an exploration met, so that it can say why there is no design: which limit binds, and by how much."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codesign_kernel.explore.goal import Goal, Judged
from codesign_kernel.units import column_text


@dataclass
class Tally:
    """Counts over designs; those of parts can be merged, in any order.

    Attributes:
        designs, runs, legal: how many there were, can run, and keep every limit.
        reasons: of those that cannot run.
        alone: by limit, how many keep this one.
        without: by limit, how many keep all the others.
        span: by limit, the least and the most that its column was.
        nearest: (the sum of the shares by which limits are broken, number of the design) of the best that can run.
    """

    designs: int = 0
    runs: int = 0
    legal: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    alone: Counter[str] = field(default_factory=Counter)
    without: Counter[str] = field(default_factory=Counter)
    span: dict[str, tuple[float, float]] = field(default_factory=dict)
    nearest: tuple[float, int] | None = None

    @classmethod
    def of(cls, goal: Goal, results: Mapping[str, Any], judged: Judged, numbers: Any) -> Tally:
        """The counts of one batch."""
        runs = judged.broken[:, -1] <= 0
        kept = judged.broken[:, :-1] <= 0
        tally = cls(len(numbers), int(runs.sum()), int(judged.legal.sum()))
        if "reason" in results and not runs.all():
            # the distinct texts are few: count the objects, not their letters
            tally.reasons.update(str(text) for text in np.asarray(results["reason"], dtype=object)[~runs].tolist())
        for place, name in enumerate(goal.limits):
            tally.alone[name] = int((runs & kept[:, place]).sum())
            tally.without[name] = int((runs & np.delete(kept, place, axis=1).all(axis=1)).sum())
            if runs.any():
                values = np.asarray(results[name], dtype=float)[runs]
                tally.span[name] = (float(values.min()), float(values.max()))
        if goal.limits and runs.any():
            broken = np.where(runs, np.maximum(judged.broken[:, :-1], 0).sum(axis=1), np.inf)
            best = int(np.argmin(broken))
            tally.nearest = (float(broken[best]), int(numbers[best]))
        return tally

    def merge(self, other: Tally) -> None:
        """Add the counts of ``other``."""
        self.designs += other.designs
        self.runs += other.runs
        self.legal += other.legal
        for mine, theirs in (
            (self.reasons, other.reasons), (self.alone, other.alone), (self.without, other.without)
        ):  # fmt: skip
            mine.update(theirs)
        for name, (low, high) in other.span.items():
            least, most = self.span.get(name, (low, high))
            self.span[name] = (min(least, low), max(most, high))
        found = [known for known in (self.nearest, other.nearest) if known is not None]
        self.nearest = min(found, default=None)

    def why_none(self, goal: Goal) -> str:
        """Why no design is legal: of an exploration in which ``legal`` is 0."""
        if not self.runs:
            told = "; ".join(f"{reason} ({count:,})" for reason, count in self.reasons.most_common(3))
            reasons = f". Reasons: {told}" if told else ""
            return f"a design has to run, but none of {self.designs:,} can{reasons}; widen the space"
        parts = []
        impossible = [name for name in goal.limits if not self.alone[name]]
        for name in impossible:
            low, high = (column_text(name, value) for value in self.span[name])
            parts.append(f"{goal.words(name)} is met by none alone: it is {low} to {high} here")
        if not impossible:
            freed = {name: count for name, count in self.without.items() if count}
            each = ", ".join(f"{self.alone[name]:,} keep {goal.words(name)}" for name in goal.limits)
            parts.append(f"each limit can be kept alone ({each})")
            parts.append(
                "what binds: "
                + (
                    ", ".join(f"without {name} {count:,} are left" for name, count in freed.items())
                    or "every two of them, for none is left when one is given up"
                )
            )
        if self.nearest is not None:
            parts.append(f"design {self.nearest[1]} comes nearest, {100 * self.nearest[0]:.3g} % over in sum")
        limits = ", ".join(goal.words(name) for name in goal.limits)
        return (
            f"a design keeps all limits ({limits}), but none of {self.runs:,} that can run does: {'; '.join(parts)}; "
            "loosen what binds, or widen the space"
        )

    def to_json(self) -> str:
        """As text; :meth:`from_json` reads it."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> Tally:
        """What :meth:`to_json` wrote."""
        told = json.loads(text)
        for name in ("reasons", "alone", "without"):
            told[name] = Counter(told[name])
        told["span"] = {name: tuple(ends) for name, ends in told["span"].items()}
        told["nearest"] = None if told["nearest"] is None else tuple(told["nearest"])
        return cls(**told)
