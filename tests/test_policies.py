"""Policies decide by the clock that they are handed: each limit and window, rests, bounds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from codesign_kernel.cluster import MODE_NAMES, MODES, Decision, Limits, Predictive, Snapshot, Threshold
from codesign_kernel.cluster.forecast import BIN_S, Forecast, period
from codesign_kernel.cluster.policies import wanted_for_work
from codesign_kernel.cluster.simulate import policy
from codesign_kernel.errors import InvalidInputError

#: Eight workers, half busy: no signal speaks.
QUIET = Snapshot(0.0, 8, 8, 4, cpu=0.5, memory=0.5, queued=0, running=4, task_s=20.0, submitted=0, finished=0)


def first_change(decide: Callable[[Snapshot], Decision], until_s: int, **signals: Any) -> Decision | None:
    """The first decision that changes the plan while ``signals`` last, a look a second."""
    for second in range(until_s + 1):
        decision = decide(QUIET._replace(time_s=float(second), **signals))
        if decision.changes:
            return decision
    return None


def balanced(**limits: float) -> Threshold:
    return Threshold(MODES["balanced"], 2, 32, Limits(**limits))


@pytest.mark.parametrize(
    ("signals", "signal", "at_s", "target"),
    [
        # workers x value / setpoint (0.5 for CPU, 0.6 for memory), half of the way there
        ({"cpu": 0.71, "idle": 0}, "cpu", 300, 10),
        ({"cpu": 1.0, "idle": 0}, "cpu", 300, 12),
        ({"memory": 0.81}, "memory", 60, 10),
        # 40 tasks of 20 s, four workers free for 20 s, the other four half done: 680 s of work in 20 s
        ({"queued": 40}, "queue", 0, 21),
        ({"cpu": 0.29, "memory": 0.39, "queued": 1, "idle": 8}, "cpu", 600, 6),
    ],
)
def test_each_signal_at_its_window(signals: dict[str, float], signal: str, at_s: int, target: int) -> None:
    decision = first_change(balanced().decide, 1200, **signals)
    assert decision is not None
    assert (decision.signal, decision.time_s, decision.workers, decision.target) == (signal, at_s, 8, target)
    assert decision.reason


@pytest.mark.parametrize(
    "signals",
    [
        {"cpu": 0.70},
        {"cpu": 0.30, "memory": 0.1},
        {"memory": 0.80},
        {"queued": 10},
        {"cpu": 0.1, "memory": 0.40},
        {"cpu": 0.1, "memory": 0.1, "queued": 2},
    ],
)
def test_at_the_limit_nothing_happens(signals: dict[str, float]) -> None:
    assert first_change(balanced().decide, 1200, **signals) is None


@pytest.mark.parametrize(("name", "signal"), [("cpu_up_s", "cpu"), ("memory_up_s", "memory")])
@pytest.mark.parametrize("window_s", [0.0, 17.0, 90.0])
def test_windows_can_be_set(name: str, signal: str, window_s: float) -> None:
    decision = first_change(balanced(**{name: window_s}).decide, 1200, **{signal: 0.9})
    assert decision is not None
    assert (decision.signal, decision.time_s) == (signal, window_s)


def test_a_break_starts_the_window_again() -> None:
    decider = balanced()
    for second in range(299):
        assert not decider.decide(QUIET._replace(time_s=float(second), cpu=0.9)).changes
    decider.decide(QUIET._replace(time_s=299.0, cpu=0.7))
    changes = [s for s in range(300, 700) if decider.decide(QUIET._replace(time_s=float(s), cpu=0.9)).changes]
    assert changes[0] == 600


def test_response_time_speaks() -> None:
    """Little's law: 40 tasks in the system, 0.1 done a second: 400 s for tasks of 20 s; more than four times that."""
    decider = Threshold(MODES["balanced"], 2, 32, Limits(queue_up=1000))
    found = []
    for second in range(200):
        now = QUIET._replace(
            time_s=float(second), queued=36, running=4, submitted=36 + second // 10, finished=second // 10
        )
        found.append(decider.decide(now))
    change = next(decision for decision in found if decision.changes)
    assert (change.signal, change.time_s) == ("response", 120.0)
    assert change.value == pytest.approx(400, rel=0.2)


def test_throughput_speaks() -> None:
    """Two tasks come in for one that gets done, few wait so far."""
    decider = Threshold(MODES["balanced"], 2, 32, Limits(queue_up=1000, slowdown_up=1000))
    found = [
        decider.decide(QUIET._replace(time_s=float(s), queued=s, submitted=2 * s, finished=s)) for s in range(1, 200)
    ]
    change = next(decision for decision in found if decision.changes)
    assert (change.signal, change.time_s, change.value) == ("throughput", 121.0, 1.0)
    assert change.target == 12  # half of the way to twice as many


def test_steps_go_the_share_of_the_way() -> None:
    now = QUIET._replace(queued=108, running=8, idle=0)
    wanted = wanted_for_work(now)
    steps = {name: Threshold(mode, 2, 200).decide(now).target - 8 for name, mode in MODES.items()}
    assert steps == {name: math.ceil(mode.share * (wanted - 8)) for name, mode in MODES.items()}
    assert steps["conservative"] < steps["balanced"] < steps["aggressive"]


@pytest.mark.parametrize("name", list(MODES))
def test_a_rest_follows_each_step(name: str) -> None:
    mode = MODES[name]
    decider, planned, steps = Threshold(mode, 2, 1000), 8, []
    for second in range(1000):
        now = QUIET._replace(time_s=float(second), planned=planned, arrived=8, idle=0, running=8, queued=20_000)
        decision = decider.decide(now)
        if decision.changes:
            steps.append(second)
            planned = decision.target
    gaps = {after - before for before, after in itertools.pairwise(steps)}
    assert gaps == {int(mode.rest_up_s)} if len(steps) > 1 else planned == 1000


def test_after_a_step_up_nobody_is_sent_home_at_once() -> None:
    """Hysteresis: between the limits nothing moves, and a step down waits for the rest after a step up."""
    decider = balanced(cpu_down_s=0.0, memory_down_s=0.0)
    assert decider.decide(QUIET._replace(queued=40)).target == 21
    calm = QUIET._replace(planned=21, arrived=21, idle=21, running=0, cpu=0.0, memory=0.0)
    changes = [s for s in range(1, 400) if decider.decide(calm._replace(time_s=float(s))).changes]
    assert changes[0] == MODES["balanced"].rest_down_s


def test_a_worker_with_a_task_stays() -> None:
    for mode in MODES.values():
        decider = Threshold(mode, 2, 32)
        busy = {"cpu": 0.1, "memory": 0.1, "idle": 1, "running": 7}
        decision = first_change(decider.decide, 900, **busy)
        assert decision is not None
        assert decision.target == 7


@pytest.mark.parametrize("mode", [*MODE_NAMES, "dask"])
def test_the_bounds_hold_whatever_comes(mode: str) -> None:
    generator = np.random.default_rng(7)
    for _ in range(20):
        minimum = int(generator.integers(0, 6))
        maximum = minimum + int(generator.integers(1, 20))
        decider, planned, submitted, finished = policy(mode, minimum, maximum), minimum, 0, 0
        for look in range(300):
            arrived = int(generator.integers(0, planned + 1))
            idle = int(generator.integers(0, arrived + 1))
            submitted += int(generator.integers(0, 50))
            finished = min(submitted, finished + int(generator.integers(0, 50)))
            now = Snapshot(
                10.0 * look,
                planned,
                arrived,
                idle,
                *generator.uniform(size=2),
                int(generator.integers(0, 2) * generator.integers(0, 500)),
                arrived - idle,
                float(generator.integers(0, 2) * generator.exponential(20)),
                submitted,
                finished,
                float(generator.exponential(30)),
            )
            decision = decider.decide(now)
            assert minimum <= decision.target <= maximum
            assert decision.workers == planned
            assert decision.reason
            planned = decision.target


@pytest.mark.parametrize("mode", [*MODE_NAMES, "dask"])
def test_outside_of_the_bounds_it_comes_back(mode: str) -> None:
    for planned, target in ((1, 2), (9, 4)):
        decision = policy(mode, 2, 4).decide(QUIET._replace(planned=planned))
        assert (decision.target, decision.signal) == (target, "bounds")


@pytest.mark.parametrize(("minimum", "maximum"), [(3, 2), (-1, 2), (0, 0), (1.5, 3)])
def test_bounds_that_no_number_meets(minimum: int, maximum: int) -> None:
    with pytest.raises(InvalidInputError, match="0 <= minimum <= maximum"):
        policy("balanced", minimum, maximum)


def test_mistakes_are_told() -> None:
    with pytest.raises(InvalidInputError, match=r"conservative, balanced, aggressive, predictive.*'brave'"):
        policy("brave", 1, 2)
    with pytest.raises(InvalidInputError, match=r"cpu.*down 0.8 and up 0.7"):
        Limits(cpu_down=0.8)
    with pytest.raises(InvalidInputError, match="rate_s is 0"):
        Limits(rate_s=0)


def test_work_on_hand_takes_as_long_as_the_wait() -> None:
    """n T² with T = d + B / n is least at n = B / d, by brute force."""
    now = QUIET._replace(arrived=0, idle=0, running=0, planned=0, queued=300, task_s=10.0, startup_s=60.0)
    costs = {n: n * (60 + 3000 / n) ** 2 for n in range(1, 300)}
    assert wanted_for_work(now) == min(costs, key=lambda n: costs[n]) == 50
    few = now._replace(queued=3, task_s=1000.0)
    assert wanted_for_work(few) == 3, "more workers than tasks help nobody"


def loads(shape: Callable[[int], float], bins: int, noise: float = 0.0) -> list[float]:
    generator = np.random.default_rng(1)
    return [max(0.0, shape(k) + noise * generator.normal()) for k in range(bins)]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(lambda k: 8.0, 8.0), (lambda k: 0.1 * k, 0.1 * 301.0), (lambda k: 20.0 if k % 60 < 6 else 1.0, 20.0)],
)
def test_forecasts_of_what_goes_on(shape: Callable[[int], float], expected: float) -> None:
    """A constant, a ramp, and bursts every ten minutes, one of which begins with the next bin."""
    model = Forecast(3 * BIN_S)
    for load in loads(shape, 300):
        model.add(load, 20.0)
    outlook = model.outlook()
    assert outlook.load == pytest.approx(expected, rel=0.05)
    assert outlook.confidence > 0.8


def wild() -> list[float]:
    """Nothing or everything, each for as long as it likes."""
    generator, found = np.random.default_rng(3), []
    while len(found) < 100:
        found += [32.0 * (len(found) % 2)] * int(generator.choice([3, 5, 7]))
    return found


def test_a_surprise_costs_confidence() -> None:
    model = Forecast(3 * BIN_S)
    for load in loads(lambda k: 8.0, 100):
        model.add(load, 20.0)
    sure = model.outlook().confidence
    for load in wild():
        model.add(load, 20.0)
    assert model.outlook().confidence < 0.6 < sure


def test_periods_are_found() -> None:
    assert period(np.array(loads(lambda k: 5 + 4 * math.sin(k / 30 * 2 * math.pi), 200, 0.5))) == 30
    assert period(np.array(loads(lambda k: 5.0, 200))) == 0
    assert period(np.array(loads(lambda k: 5.0, 200, 1.0))) == 0
    assert period(np.array(loads(lambda k: float(k % 10), 15))) == 0


def predictive_after(loads_by_bin: list[float], **last: Any) -> Decision:
    """What predictive decides at the end of such a history: tasks of 20 s, workers that start in 30 s."""
    decider, submitted, decision = Predictive(2, 32), 0.0, None
    for k, load in enumerate(loads_by_bin):
        now = QUIET._replace(time_s=BIN_S * k, submitted=round(submitted), startup_s=30.0)
        decision = decider.decide(now._replace(**last) if k == len(loads_by_bin) - 1 else now)
        submitted += load * BIN_S / 20.0
    assert decision is not None
    return decision


def test_predictive_acts_before_the_burst() -> None:
    """Nothing waits and CPU is low; a burst is 30 s away, as at every tenth minute before."""
    history = loads(lambda k: 24.0 if k % 60 < 12 else 2.0, 299)
    early = predictive_after(history)
    assert early.signal == "forecast"
    assert early.target > 8
    assert "period" in early.reason


def test_predictive_heeds_memory() -> None:
    decider, found = Predictive(2, 32), []
    for second in range(600):
        now = QUIET._replace(time_s=float(second), memory=0.9 if second > 300 else 0.5, startup_s=30.0)
        found.append(decider.decide(now))
    assert found[250].signal in ("forecast", "hold")
    assert "not trusted" not in found[250].reason
    first = next(decision for decision in found if decision.signal == "memory")
    assert (first.time_s, first.target > 8) == (361.0, True)


def test_predictive_is_balanced_where_it_knows_nothing() -> None:
    unsure = predictive_after(wild(), queued=40)
    assert "not trusted" in unsure.reason
    assert unsure.signal == "queue"
    assert unsure.target == balanced().decide(QUIET._replace(queued=40, startup_s=30.0)).target
