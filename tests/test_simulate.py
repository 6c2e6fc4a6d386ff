"""The simulated cluster: nothing is lost, what is paid for adds up, and Dask's law is Dask's law."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from distributed.scheduler import Scheduler

from codesign_kernel.cluster import (
    BASELINE,
    MODE_NAMES,
    SHAPES,
    Decision,
    Snapshot,
    drawn,
    recorded,
    shape,
    simulate,
)
from codesign_kernel.cluster.dask_law import adaptive_target
from codesign_kernel.errors import InvalidInputError

MODES = [*MODE_NAMES, BASELINE]


class Fixed:
    """A policy that wants one number."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def decide(self, now: Snapshot) -> Decision:
        return Decision(now.time_s, now.planned, self.workers, "test", "as told")


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_what_goes_in_comes_out(name: str, mode: str) -> None:
    trace = shape(name, hours=0.4, seed=3)
    outcome = simulate(trace, mode, minimum=1, maximum=20)
    assert outcome.tasks == len(trace.arrives_s)
    assert outcome.busy_hours == pytest.approx(trace.work_s / 3600)
    assert outcome.busy_hours <= outcome.worker_hours + 1e-9
    assert outcome.worker_hours == pytest.approx(sum(moment.planned for moment in outcome.moments) / 3600)
    for moment in outcome.moments:
        assert 1 <= moment.planned <= 20
        assert moment.running <= moment.arrived <= moment.planned
        assert moment.queued == 0 or moment.running == moment.arrived, "a worker idles while tasks wait"
    assert outcome.response_s >= float(trace.lasts_s.mean()) - 1e-9
    planned = 1
    for decision in outcome.decisions:
        assert decision.workers == planned, "a decision was not followed"
        planned = decision.target


def test_a_queue_worked_out_by_hand() -> None:
    """Two workers, three tasks of 10 s at once: 10, 10, 20 s. The third worker of a plan of three is there at 4 s."""
    trace = recorded("three", [0.0, 0.0, 0.0], [10.0, 10.0, 10.0])
    two = simulate(trace, Fixed(2), minimum=2, maximum=3)
    assert (two.completion_s, two.response_s) == (20.0, pytest.approx(40 / 3))
    assert two.worker_hours == pytest.approx(2 * 20 / 3600)
    three = simulate(trace, Fixed(3), minimum=2, maximum=3, startup_s=4.0)
    assert three.completion_s == 14.0
    assert three.worker_hours == pytest.approx(3 * 14 / 3600)


def test_reaction_is_the_wait_for_the_next_worker() -> None:
    trace = recorded("lot", np.zeros(100), np.full(100, 60.0))
    assert simulate(trace, Fixed(4), minimum=2, maximum=4, startup_s=25.0).reaction_s == pytest.approx(25.0)
    assert math.isnan(simulate(recorded("one", [0.0], [5.0]), Fixed(2)).reaction_s)


def test_virtual_time_repeats_itself() -> None:
    runs = [simulate(shape("bursts", hours=0.5, seed=1), "predictive") for _ in range(2)]
    assert runs[0].decisions == runs[1].decisions
    assert runs[0].moments == runs[1].moments


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_what_they_say(name: str) -> None:
    trace = shape(name, seed=5)
    assert (np.diff(trace.arrives_s) >= 0).all()
    assert trace.arrives_s.max() <= trace.length_s
    assert trace.lasts_s.mean() == pytest.approx(20.0, rel=0.05)
    assert not np.array_equal(trace.lasts_s[:50], shape(name, seed=6).lasts_s[:50])
    load = {"steady": 8, "step": 12, "ramp": 2 * 5 / 6 + 22 * (2.5 / 2 + 0.5) / 3, "diurnal": 10, "bursts": 5.6}
    if name in load:
        assert trace.work_s / trace.length_s == pytest.approx(load[name], rel=0.1)


@pytest.mark.slow
def test_predictive_beats_dask_on_most() -> None:
    """Completion time x worker-hours, whether completion is that of the last task or the mean of all."""
    last = mean = 0
    for name in SHAPES:
        ours, theirs = (simulate(shape(name), mode) for mode in ("predictive", BASELINE))
        last += ours.completion_s * ours.worker_hours < theirs.completion_s * theirs.worker_hours
        mean += ours.response_s * ours.worker_hours < theirs.response_s * theirs.worker_hours
    assert last > len(SHAPES) / 2
    assert mean > len(SHAPES) / 2


def scheduler(generator: np.random.Generator) -> SimpleNamespace:
    """As much of a scheduler as ``Scheduler.adaptive_target`` reads, in a random state."""
    task_s = float(generator.exponential(3.0))
    workers = {
        name: SimpleNamespace(
            processing=range(int(generator.integers(0, 4))),
            nthreads=int(generator.integers(1, 4)),
            memory_limit=int(generator.integers(0, 2)) * 100,
            nbytes=int(generator.integers(0, 100)),
        )
        for name in range(int(generator.integers(0, 9)))
    }
    idle = sum(not worker.processing for worker in workers.values())
    queued = int(generator.integers(0, 2) * generator.integers(0, 300))
    return SimpleNamespace(
        queued=[SimpleNamespace(prefix=None)] * queued,
        unrunnable={},
        _get_prefix_duration=lambda prefix: task_s,
        total_occupancy=sum(len(worker.processing) for worker in workers.values()) * task_s,
        workers=workers,
        workers_to_close=lambda: [None] * idle,
        task_s=task_s,
        idle=idle,
    )


def test_dasks_law_is_dasks_law() -> None:
    """The same number as distributed's own function, on a thousand states."""
    generator = np.random.default_rng(11)
    targets = set()
    for _ in range(1000):
        state = scheduler(generator)
        workers = state.workers.values()
        ours = adaptive_target(
            queued=len(state.queued),
            task_s=state.task_s,
            occupancy_s=state.total_occupancy,
            processing=[len(worker.processing) for worker in workers],
            threads=[worker.nthreads for worker in workers],
            memory_limit=sum(worker.memory_limit for worker in workers),
            memory_used=sum(worker.nbytes for worker in workers),
            closable=state.idle,
        )
        assert ours == Scheduler.adaptive_target(state, 5.0)
        targets.add(ours)
    assert len(targets) > 30


def test_mistakes_are_told() -> None:
    with pytest.raises(InvalidInputError, match="load shapes are steady"):
        shape("wavy")
    with pytest.raises(InvalidInputError, match="one duration for each task"):
        recorded("x", [0.0, 1.0], [1.0])
    with pytest.raises(InvalidInputError, match="run longer than 0 s"):
        recorded("x", [0.0], [0.0])
    with pytest.raises(InvalidInputError, match="0 s or longer to start"):
        simulate(recorded("x", [0.0], [1.0]), "balanced", startup_s=-1.0)
    with pytest.raises(InvalidInputError, match="raise minimum"):
        simulate(recorded("x", [0.0], [1.0]), Fixed(0), minimum=0, maximum=1)


@pytest.mark.parametrize("mode", [*MODE_NAMES, "dask"])
def test_the_bounds_hold_on_whatever_load(mode: str) -> None:
    """Loads drawn at random, other bounds and start-up times for each: never outside, and nothing is left undone."""
    for seed in range(4):
        generator = np.random.default_rng(seed)
        minimum = int(generator.integers(1, 4))
        maximum = minimum + int(generator.integers(0, 12))
        trace = drawn(seed, hours=0.3)
        found = simulate(trace, mode, minimum=minimum, maximum=maximum, startup_s=float(generator.choice([0, 5, 60])))
        assert all(minimum <= moment.planned <= maximum for moment in found.moments)
        assert all(moment.arrived <= moment.planned for moment in found.moments)
        assert all(minimum <= decision.target <= maximum for decision in found.decisions)
        assert found.tasks == len(trace.arrives_s)


def test_a_load_is_drawn_once() -> None:
    first, again, other = drawn(5, hours=1), drawn(5, hours=1), drawn(6, hours=1)
    assert first.arrives_s.tolist() == again.arrives_s.tolist()
    assert first.lasts_s.tolist() == again.lasts_s.tolist()
    assert len(other.arrives_s) != len(first.arrives_s)
    assert (first.arrives_s[:-1] <= first.arrives_s[1:]).all()
    assert 0 <= first.arrives_s[0] <= first.arrives_s[-1] <= 3600
