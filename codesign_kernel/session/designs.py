"""All designs under conditions, for pages that move these: a small table for a picture, a large one to search.

The conditions are what the surroundings give, external bandwidth and clock, and the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign_kernel.design import DesignSpace
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.words import design_words
from codesign_kernel.pareto import pareto_front
from codesign_kernel.session.explore import explore
from codesign_kernel.session.steps import sweep

if TYPE_CHECKING:
    import pandas as pd

OBJECTIVES = ("latency_ms", "energy_uj", "area_mm2")
#: 7,500 designs, swept in some 10 ms: a slider moves them.
FEW: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "rows": (4, 8, 16, 32, 64),
        "cols": (4, 8, 16, 32, 64),
        "activation_kib": (4, 16, 64, 256, 1024),
        "weight_kib": (8, 32, 128, 512, 2048),
        "accumulator_kib": (2, 8, 32, 128),
        "instruction_kib": (4, 32, 256),
    }
)
#: 95,256 designs, from a microcontroller's to a data centre's, swept in some 150 ms.
MANY: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "rows": (2, 4, 8, 16, 32, 64, 128),
        "cols": (2, 4, 8, 16, 32, 64, 128),
        "activation_kib": (4, 8, 16, 32, 64, 128, 256, 512, 1024),
        "weight_kib": (8, 16, 32, 64, 128, 256, 512, 1024, 2048),
        "accumulator_kib": (2, 4, 8, 16, 32, 64),
        "instruction_kib": (16, 64, 256, 1024),
    }
)


def few(workload: Any, conditions: Mapping[str, float]) -> pd.DataFrame:
    """The designs of ``FEW`` under ``conditions``: a frame of :func:`codesign_kernel.sweep`."""
    return sweep(workload, DesignSpace(**FEW, **conditions))


def front(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other beats in all of ``OBJECTIVES``."""
    return pareto_front(frame, list(OBJECTIVES))


class Designs:
    """The designs of ``MANY``, for one of several networks under the conditions that were asked for last.

    Args:
        networks: workloads by label. choices: the space, but for the conditions.

    Raises:
        InvalidInputError: there is no network.
    """

    def __init__(self, networks: Mapping[str, Any], choices: Mapping[str, tuple[float, ...]] = MANY) -> None:
        if not networks:
            raise InvalidInputError("designs are of at least one network, but got none")
        self._networks, self._choices = dict(networks), dict(choices)
        self._last: tuple[Any, DesignSpace] | None = None

    @property
    def labels(self) -> list[str]:
        """Of the networks."""
        return list(self._networks)

    def under(self, conditions: Mapping[str, Any]) -> pd.DataFrame:
        """All designs under ``conditions``: values of the condition parameters, and ``network``, a label.

        Returns:
            A frame of :func:`codesign_kernel.sweep`, its results rounded to 24 binary digits (7 decimal ones), which
            halves what a page has to fetch.

        Raises:
            InvalidInputError: there is no such network, or a condition is none of a design.
        """
        given = dict(conditions)
        label = given.pop("network", self.labels[0])
        if not isinstance(label, str) or label not in self._networks:
            raise InvalidInputError(f"the networks here are {', '.join(self.labels)}, but got {label!r:.60}")
        space = DesignSpace(**self._choices, **given)
        frame = sweep(self._networks[label], space)
        results = [name for name in frame.columns if name not in space.choices and frame[name].dtype == np.float64]
        frame[results] = frame[results].astype(np.float32).astype(np.float64)
        self._last = self._networks[label], space
        return frame

    def recommend(self, limits: Mapping[str, tuple[float | None, float | None]]) -> str:
        """What is cheaper than the knee, and what to change next, of the designs that were asked for last.

        Args:
            limits: {column: (least, most)}; the answer says which it leaves out, because they are no objectives.

        Raises:
            InvalidInputError: none were asked for yet.
            InfeasibleDesignError: none keeps the limits.
        """
        if self._last is None:
            raise InvalidInputError("designs are recommended of those under some conditions; ask for them first")
        workload, space = self._last
        kept = {name: pair for name, pair in limits.items() if name in OBJECTIVES}
        found = explore(workload, space, objectives=OBJECTIVES).recommend(within=kept or None)
        cheaper = found.cheaper_why
        if found.cheaper is not None:
            words = design_words(found.cheaper, space.choices)
            cheaper = re.sub(r"(design \d+), .*?: ", rf"\1, {words}: ", cheaper, count=1)
        left = [_plain(name) for name in sorted(set(limits) - set(kept))]
        told = [cheaper, _plain(found.change_why)]
        if left:
            told.append(f"These two leave the limits on {', '.join(left)} out.")
        return "\n".join(line for line in told if line)


def _plain(text: str) -> str:
    """Parameters as people call them."""
    return re.sub(r"\bcols\b", "columns", re.sub(r"\b([a-z]+)_kib\b", r"\1 memory", text))
