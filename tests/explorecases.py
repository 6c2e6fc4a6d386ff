"""A small space and evaluators that are cheap, pickle, and count what they are asked."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

import codesign_kernel as ck
from codesign_kernel.explore import Exploration, explore
from codesign_kernel.explore.search import space_digest

#: 5 x 4 x 6 x 3 x 2 = 720 designs; the choices of weight_kib are not in order, and dataflow is a text.
SPACE = ck.DesignSpace(
    rows=(1, 2, 4, 8, 16),
    cols=(1, 2, 4, 8),
    weight_kib=(8, 4, 64, 16, 32, 2),
    bandwidth_gb_s=(1.0, 2.0, 4.0),
    dataflow=("ws", "os"),
)
OBJECTIVES = ("latency_ms", "area_mm2")


def results(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Made up, and with a front: more elements are faster and larger; small memories cannot run large arrays."""
    c = {name: np.asarray(values) for name, values in columns.items()}
    pes = c["rows"] * c["cols"]
    held = c["dataflow"] == "os"
    fits = c["weight_kib"] * 4 >= pes
    latency = 100.0 / pes + 20.0 / (c["bandwidth_gb_s"] * np.sqrt(c["weight_kib"])) + np.where(held, 3.0, 0.0)
    area = 0.1 * pes + 0.02 * c["weight_kib"] + 0.1 * c["bandwidth_gb_s"] - np.where(held, 0.05 * c["cols"], 0.0)
    return {
        "latency_ms": np.where(fits, latency, np.nan),
        "area_mm2": np.where(fits, area, np.nan),
        "power_mw": np.where(fits, pes * c["bandwidth_gb_s"], np.nan),
        "feasible": fits,
        "reason": np.where(fits, "", "weights do not fit").astype(object),
    }


class Counting:
    """``results``, which refuses to evaluate a design twice, and remembers the sizes of what it was given."""

    def __init__(self, inner: Callable[[Mapping[str, Any]], dict[str, Any]] = results) -> None:
        self.inner = inner
        self.seen: set[tuple[Any, ...]] = set()
        self.batches: list[int] = []

    def __call__(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        rows = [*zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True)]
        assert len(set(rows)) == len(rows), "a design twice in a batch"
        assert not self.seen & set(rows), "a design evaluated twice"
        self.seen |= set(rows)
        self.batches.append(len(rows))
        return self.inner(columns)


class Backwards:
    """An executor that completes the last item first, and remembers how many it had."""

    def __init__(self) -> None:
        self.items: list[int] = []

    def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        self.items.append(len(items))
        for position in reversed(range(len(items))):
            yield position, function(items[position])

    def close(self) -> None:
        """Nothing is held."""


class Interrupt(Exception):
    """What a progress callback raises in the middle."""


def interrupt_after(calls: int) -> Callable[[int, int, str], None]:
    """A progress callback that raises the time after ``calls``."""
    left = [calls]

    def progress(done: int, total: int, message: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Interrupt

    return progress


class Logged:
    """``results``, ``pause_s`` a design, and a line in the file ``path`` for each that was evaluated anywhere."""

    def __init__(self, path: str, pause_s: float = 0.0) -> None:
        self.path, self.pause_s = path, pause_s

    def __call__(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        rows = [*zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True)]
        time.sleep(self.pause_s * len(rows))
        found = results(columns)
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, "".join(f"{row}\n" for row in rows).encode())  # at once: processes do not mix their lines
        os.close(file)
        return found

    def evaluated(self) -> list[str]:
        """The designs, a line each time that one was evaluated."""
        with open(self.path) as file:
            return file.read().splitlines()


class Poison(Logged):
    """The process that is given the design ``number`` dies of it."""

    def __init__(self, path: str, number: int) -> None:
        super().__init__(path)
        self.design = tuple(values[0] for values in SPACE.columns(np.array([number])).values())

    def __call__(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        if self.design in zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(columns)


#: What the tests of this room explore with, by sampler: all that ``explore`` needs but the space and the evaluator.
CASES: dict[str, dict[str, Any]] = {
    "exact": {"chunk": 36},
    "pymoo": {"budget": 120, "population": 16},
    "nsga2": {"budget": 120, "population": 16},
    "nsga3": {"budget": 120, "population": 16},
    "tpe": {"budget": 60, "population": 12},
    "random": {"budget": 120, "population": 16},
}


def explored(sampler: str, evaluate: Any = results, **changes: Any) -> Exploration:
    """``SPACE`` explored by ``sampler``, with the seed 3."""
    settings = {"objectives": OBJECTIVES, "sampler": sampler, "seed": 3, **CASES[sampler], **changes}
    return explore(SPACE, evaluate, **settings)


def recorder_of(store: ck.Store, sampler: str) -> Any:
    """The recorder of such an exploration."""
    return store.study(sampler, space_digest(SPACE), [*OBJECTIVES]).recorder(seed=3)


def same(found: Exploration, undisturbed: Exploration) -> None:
    """The two have looked at the same designs, and found the same of them."""
    pd.testing.assert_frame_equal(found.front, undisturbed.front)
    pd.testing.assert_frame_equal(found.frame, undisturbed.frame)
    assert found.tally == undisturbed.tally
    assert found.stopped == undisturbed.stopped


def counted_once(store: ck.Store, found: Exploration) -> None:
    """The store has exactly the designs of ``found`` (of a sweep those of the front), each once, as they were found."""
    done = store.open_study(found.provenance.sampler).frame()
    assert done.index.is_unique
    expected = found.front if found.provenance.sampler == "exact" else found.frame
    pd.testing.assert_frame_equal(done, expected.sort_index(), check_dtype=False)
