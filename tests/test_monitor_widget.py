"""The page of an exploration: what it is told, when, and that nothing is left of it; in a kernel and in a browser."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from codesign_kernel.cluster import Decision, Moment
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.explore import Exploration, Memory, Standing, explore
from codesign_kernel.figures import growth_info, standing_info

codesign_widgets = pytest.importorskip("codesign_widgets")

from browser import Served, browse, check_looks  # noqa: E402 - behind what they need
from explorecases import OBJECTIVES, SPACE, results  # noqa: E402

from codesign_widgets import ExplorationMonitor  # noqa: E402

THREE = (*OBJECTIVES, "power_mw")


class Follower:
    """A progress that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[Standing] = []

    def __call__(self, done: int, total: int, message: str) -> None:
        """Counting is not asked here."""

    def stands(self, standing: Standing) -> None:
        self.told.append(standing)


@pytest.mark.parametrize("sampler", ["exact", "random"])
def test_a_follower_sees_the_front_grow(sampler: str) -> None:
    follower = Follower()
    budget = None if sampler == "exact" else 400
    found = explore(
        SPACE, results, objectives=OBJECTIVES, constraints={"area_mm2": 2.0}, sampler=sampler, budget=budget,
        progress=follower, chunk=60, population=40,
    )  # fmt: skip
    first, last = follower.told[0], follower.told[-1]
    assert len(follower.told) > 3
    assert first.tally.designs < last.tally.designs == found.tally.designs
    assert {*last.numbers.tolist()} == {*found.front.index.tolist()}
    assert last.front[[*OBJECTIVES]].sort_index().equals(found.front[[*OBJECTIVES]].sort_index())
    assert (last.tally.legal, last.tally.reasons) == (found.tally.legal, found.tally.reasons)
    assert last.knee.name == found.knee.name
    grown = last.history["hypervolume"]
    assert grown.is_monotonic_increasing
    assert grown.iloc[-1] == pytest.approx(found.hypervolume)


def test_the_past_of_a_long_search_stays_short() -> None:
    follower = Follower()
    explore(SPACE, results, objectives=OBJECTIVES, sampler="exact", chunk=2, progress=follower)
    assert len(follower.told) >= 300
    assert len(follower.told[-1].past) <= 80
    assert follower.told[-1].past[-1][0] == SPACE.size


@pytest.fixture(scope="module")
def found() -> Exploration:
    return explore(
        SPACE, results, objectives=THREE, constraints={"area_mm2": 2.0}, sampler="random", budget=300, seed=1
    )


def test_what_the_figures_say(found: Exploration) -> None:
    info = standing_info(found, "latency_ms", "area_mm2")
    edge = [info.spots[place] for place in info.edge]
    assert [spot.x for spot in edge] == sorted(spot.x for spot in edge)
    assert [spot.y for spot in edge] == sorted((spot.y for spot in edge), reverse=True)
    assert info.front == len(found.front) == len(info.spots)
    assert info.spots[info.knee].x == found.knee["latency_ms"]
    assert "least latency" in info.finding
    with pytest.raises(InvalidInputError, match="two of latency_ms, area_mm2, power_mw"):
        standing_info(found, "latency_ms", "latency_ms")
    grown = growth_info(found.history)
    assert grown.hypervolume[-1] == pytest.approx(found.hypervolume)
    with pytest.raises(InvalidInputError, match="two looks"):
        growth_info(found.history.head(1))


def test_a_finished_one_is_shown(found: Exploration) -> None:
    shown = ExplorationMonitor(found)
    answer = shown.answer
    assert (answer["state"], answer["x"], answer["y"], answer["error"]) == ("done", "latency_ms", "area_mm2", None)
    assert [tile["label"] for tile in answer["tiles"]] == ["Looked at", "Speed", "On the front", "Feasible"]
    assert answer["front"]["data"]
    assert answer["growth"]["data"]
    assert [row["which"] for row in answer["best"]] == ["Knee", "Least latency", "Least area", "Least power"]
    assert [reason for reason, _ in answer["barred"]] == ["Weights do not fit", "Breaks area at most 2.00 mm²"]
    assert json.loads(json.dumps(answer, allow_nan=False)), "what goes to the page is plain JSON"
    shown.query = {"seq": 1, "action": "look", "x": "area_mm2", "y": "power_mw"}
    assert (shown.answer["x"], shown.answer["y"]) == ("area_mm2", "power_mw")
    shown.query = {"seq": 2, "action": "start"}
    assert "what is shown here is finished" in shown.answer["error"]["text"].lower()
    shown.close()


class Stepped:
    """An exploration that goes on when a test says so."""

    def __init__(self, batches: int = 8, **others: Any) -> None:
        self.batches = threading.Semaphore(0)
        self.recorder, self.calls, self.others = Memory(), 0, others

    def evaluate(self, columns: Any) -> dict[str, Any]:
        assert self.batches.acquire(timeout=20)
        self.calls += 1
        return results(columns)

    def __call__(self, progress: Any, stop: Callable[[], bool]) -> Exploration:
        settings: dict[str, Any] = {"objectives": OBJECTIVES, "sampler": "exact", "chunk": 60} | self.others
        return explore(SPACE, self.evaluate, recorder=self.recorder, progress=progress, stop=stop, **settings)

    def go(self, batches: int) -> None:
        self.batches.release(batches)


@pytest.fixture
def stepped() -> Stepped:
    return Stepped()


def until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not seen():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


def threads() -> set[str]:
    return {one.name for one in threading.enumerate() if one.name == "exploration"}


def test_start_cancel_resume(stepped: Stepped) -> None:
    shown = ExplorationMonitor(stepped, interval_s=0.0)
    assert shown.answer["state"] == "ready"
    shown.query = {"seq": 1, "action": "start", "x": "", "y": ""}
    assert shown.answer["state"] == "running"
    assert shown.answer["doing"].startswith("The first designs are on their way")
    shown.query = {"seq": 2, "action": "start"}
    assert "one exploration runs at a time" in shown.answer["error"]["text"].lower()
    stepped.go(3)
    until(lambda: stepped.calls == 3 and shown.answer.get("done", 0) > 0 and shown.answer["front"] is not None)
    assert shown.answer["tiles"][0]["value"] != "0"
    shown.query = {"seq": 3, "action": "cancel"}
    assert shown.answer["state"] == "stopping"
    stepped.go(2)  # one block, and the designs beside the front that an exact sweep keeps
    part = shown.wait(20)
    assert (part.stopped, shown.answer["state"], shown.state) == ("stopped", "stopped", "stopped")
    before = stepped.calls
    shown.query = {"seq": 4, "action": "start"}
    stepped.go(200)
    whole = shown.wait(20)
    assert (whole.stopped, shown.answer["state"]) == ("complete", "done")
    assert shown.result is whole
    alone = Stepped()
    alone.go(200)
    undisturbed = alone(Follower(), lambda: False)
    assert stepped.calls - before == alone.calls - 4, "the four blocks known were evaluated again"
    assert {*whole.front.index} == {*undisturbed.front.index}
    shown.close()
    assert not threads()


def test_a_page_cannot_end_it_by_its_answer(stepped: Stepped) -> None:
    shown = ExplorationMonitor(stepped, interval_s=0.0)
    shown.set_state({"query": {"seq": 1, "action": "start", "x": "", "y": ""}})
    stepped.go(1)
    until(lambda: stepped.calls == 1)
    shown.set_state({"answer": {"seq": "x"}})
    stepped.go(200)
    assert shown.wait(20) is not None
    assert (shown.answer["seq"], shown.answer["state"], shown.answer["failure"]) == (1, "done", "")
    shown.close()


def test_close_stops_it(stepped: Stepped) -> None:
    shown = ExplorationMonitor(stepped, interval_s=0.0)
    shown.start()
    stepped.go(1)
    until(lambda: stepped.calls == 1)
    stepped.go(2)
    shown.close()
    shown.close()
    assert not threads()
    assert stepped.calls <= 3
    answer = shown.answer
    shown._news()
    assert shown.answer == answer


def test_a_burst_does_not_flood_the_page() -> None:
    told = 0

    def burst(progress: Any, stop: Callable[[], bool]) -> Exploration:
        found = explore(SPACE, results, objectives=OBJECTIVES, sampler="random", budget=200)
        for done in range(1000):
            progress(done, 1000, "designs evaluated")
        return found

    shown = ExplorationMonitor(burst, interval_s=30.0)

    def count(_: Any) -> None:
        nonlocal told
        told += 1

    shown.observe(count, "answer")
    shown.start()
    shown.wait(20)
    assert 1 <= told <= 3, "the first, and the last"
    assert shown.answer["state"] == "done"
    shown.close()


def test_drawing_leaves_time_for_the_search(found: Exploration) -> None:
    shown = ExplorationMonitor(found, interval_s=0.0)
    before = time.monotonic()
    shown._show()
    took = time.monotonic() - before
    assert shown._due_s - before > took, "it rests after a picture"
    shown.close()


def test_a_failure_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def refused(progress: Any, stop: Any) -> Any:
        raise InfeasibleDesignError("no <b>design</b> keeps all limits")

    def broken(progress: Any, stop: Any) -> Any:
        return np.zeros(2).reshape(3)

    def gone(progress: Any, stop: Any) -> Any:
        raise PermissionError("designs.parquet")

    for run, said in (
        (refused, "No <b>design</b> keeps all limits."),
        (broken, "ValueError"),
        (gone, "PermissionError: designs.parquet"),
    ):
        shown = ExplorationMonitor(run)
        shown.start()
        assert shown.wait(20) is None
        assert shown.answer["state"] == "failed"
        assert said in shown.answer["failure"]
        shown.start()  # it can be tried again
        shown.wait(20)
        shown.close()
    assert "an exploration failed" in caplog.text


@pytest.mark.parametrize(
    "asked",
    ["start", 3, [], {"action": None}, {"action": ["start"]}, {"action": "<b>"}, {"action": "look", "x": 4, "y": "x"},
     {"action": "look", "x": "latency_ms", "y": "latency_ms"}, {"action": "look", "x": "<img>", "y": float("nan")},
     {"seq": 2**80, "action": "delete"}, {"action": "look", "x": "latency_ms", "y": {}}],
)  # fmt: skip
def test_whatever_a_page_asks(found: Exploration, asked: Any) -> None:
    shown = ExplorationMonitor(found)
    shown.query = asked
    assert shown.answer["error"]["text"]
    assert shown.answer["x"] == "latency_ms"
    assert shown.answer["state"] == "done"
    shown.close()


@pytest.mark.parametrize("wrong", [None, 3, "run", [], {"front": 1}])
def test_what_it_follows(wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"lambda progress, stop"):
        ExplorationMonitor(wrong)


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
def test_its_interval(found: Exploration, wrong: float) -> None:
    with pytest.raises(InvalidInputError, match="interval_s"):
        ExplorationMonitor(found, interval_s=wrong)


def test_a_joint_search_is_counted_and_then_shown(found: Exploration) -> None:
    """One that has no front before it is done, and counts networks."""
    front = found.front.head(3).assign(accuracy=[0.9, 0.8, 0.7]).reset_index(drop=True)
    pairs: Any = SimpleNamespace(
        objectives={"accuracy": "max", "latency_ms": "min"}, front=front, space=SPACE, knee=front.iloc[1],
        frame=front, history=pd.DataFrame({"networks": [1, 2], "hypervolume": [0.1, 0.2]}), stopped="budget",
        provenance=SimpleNamespace(evaluated=3, wall_s=2.0),
    )  # fmt: skip
    go_on = threading.Event()

    def run(progress: Any, stop: Any) -> Any:
        progress(1, 8, "networks evaluated, 3 pairs on the front")
        assert go_on.wait(20)
        return pairs

    shown = ExplorationMonitor(run, interval_s=0.0)
    shown.start()
    until(lambda: shown.answer.get("done") == 1)
    assert shown.answer["front"] is None
    assert shown.answer["doing"].startswith("1 of 8 networks evaluated, after")
    go_on.set()
    assert shown.wait(20) is pairs
    assert shown.answer["told"] == "Done: the budget is spent."
    assert (shown.answer["x"], shown.answer["y"]) == ("latency_ms", "accuracy")
    assert shown.answer["front"]["layout"]["yaxis"]["title"]["text"] == "Accuracy (%), higher is better"
    assert shown.answer["best"][1]["values"][0] == "90\u00a0%"
    assert (shown.answer["growth"], shown.answer["barred"]) == (None, [])
    shown.close()


def test_the_cluster_is_shown_too(found: Exploration) -> None:
    ended: list[int] = []
    cluster: Any = SimpleNamespace(
        minimum=1, maximum=4, closed=False, moments=[Moment(0.0, 1, 1, 9, 1), Moment(5.0, 4, 1, 9, 1)],
        decisions=[Decision(4.0, 1, 4, "queue", "9 tasks wait")], watch=lambda told: lambda: ended.append(1),
    )  # fmt: skip
    shown = ExplorationMonitor(found, cluster=cluster)
    assert shown.answer["workers"]["title"] == "1 worker is there, 3 to come; 9 tasks wait"
    assert shown.answer["decisions"][0]["change"] == "1 → 4"
    shown.close()
    assert ended == [1]


#: 720 made-up designs in batches of 20, slow enough to be stopped the first time; three objectives.
CELL = """
import sys, time
sys.path.insert(0, {tests!r})
from explorecases import SPACE, results
from codesign_kernel.explore import Memory, explore
from codesign_widgets import ExplorationMonitor
known, runs = Memory(), []
def slowly(columns):
    time.sleep(1.0 if len(runs) == 1 else 0.02)
    return results(columns)
def run(progress, stop):
    runs.append(1)
    return explore(SPACE, slowly, objectives=("latency_ms", "area_mm2", "power_mw"), sampler="random", budget=2000,
                   population=20, constraints={{"area_mm2": 2.0}}, recorder=known, progress=progress, stop=stop)
ExplorationMonitor(run, interval_s=0.2)
""".format(tests=__file__.rpartition("/")[0])  # fmt: skip


@pytest.fixture
def tab(pages: Served) -> Iterator[Any]:
    with browse(pages.page("monitor", CELL), ".ckx-monitor .ckx-button") as opened:
        yield opened


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_followed_in_a_browser(tab: Any) -> None:
    tab.get_by_role("button", name="Start").click()
    tab.wait_for_selector(".ckx-monitor[data-state=running] .ck-plot .main-svg")
    tab.get_by_role("button", name="Cancel").click()
    tab.wait_for_selector(".ckx-monitor[data-state=stopped]")
    resume = tab.get_by_role("button", name="Resume")
    resume.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".ckx-monitor[data-state=done]")
    assert "720" in tab.inner_text(".ckx-tiles")
    across = tab.get_by_label("Across")
    across.focus()
    tab.keyboard.press("ArrowDown")
    tab.wait_for_function("document.querySelector('.ckx-monitor .ck-subtitle').textContent.includes('against area')")
    assert tab.get_by_label("Up").input_value() == "latency_ms", "the axes exchange what they show"
    assert tab.locator(".ckx-best tbody tr").count() == 4
    assert "Weights do not fit" in tab.inner_text(".ckx-barred")
    check_looks(tab, "monitor")


@pytest.mark.parametrize(("confined", "told"), [(True, "(ValueError)"), (False, "(ValueError: /srv/secret)")])
def test_an_app_does_not_tell_the_words_of_a_foreign_error(
    monkeypatch: pytest.MonkeyPatch, confined: bool, told: str
) -> None:
    def run(progress: Any, stop: Any) -> Any:
        raise ValueError("/srv/secret")

    monkeypatch.setattr("codesign_widgets.monitor.current", lambda: object() if confined else None)
    shown = codesign_widgets.ExplorationMonitor(run)
    shown.start()
    assert shown.wait(20) is None
    assert shown.answer["failure"] == f"The exploration failed {told}."
    shown.close()
