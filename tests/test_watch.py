"""Watching a cluster: what is told and when it ends, the page in its kernel, and the page in a browser."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import codesign_kernel as ck
from codesign_kernel.cluster import Decision, Moment
from codesign_kernel.errors import ClusterError, InvalidInputError
from codesign_kernel.figures import workers_info

codesign_widgets = pytest.importorskip("codesign_widgets")
pytest.importorskip("distributed")

from browser import Served, browse, check_looks  # noqa: E402 - behind what they need

from codesign_kernel.cluster.adapter import Log  # noqa: E402
from codesign_kernel.cluster.simulate import policy  # noqa: E402

#: What a scheduler says of two busy workers and forty tasks that wait.
BUSY = {
    "arrived": 2, "idle": 0, "cpu": 0.9, "memory": 0.1, "queued": 40, "running": 2, "task_s": 5.0, "submitted": 42,
    "finished": 0, "slots": 1,
}  # fmt: skip


class Looked:
    """A cluster's log as a cluster shows it, looked at when a test says so."""

    def __init__(self) -> None:
        self.log = Log(policy("aggressive", 2, 8), 2.0)
        self.minimum, self.maximum, self.closed = 2, 8, False
        self.watch = self.log.watch

    @property
    def decisions(self) -> list[Decision]:
        return [*self.log.decisions]

    @property
    def moments(self) -> list[Moment]:
        return [*self.log.moments]

    def look(self, **changes: float) -> Decision:
        planned = self.moments[-1].planned if self.moments else 2
        return self.log.decide({**BUSY, **changes}, planned)


@pytest.fixture
def looked() -> Looked:
    return Looked()


def test_each_look_is_kept_and_told(looked: Looked) -> None:
    told: list[int] = []
    end = looked.watch(lambda: told.append(len(looked.moments)))
    looked.look()
    looked.look(queued=0)
    assert told == [1, 2]
    assert [(m.planned, m.arrived, m.queued, m.running) for m in looked.moments] == [(8, 2, 40, 2), (8, 2, 0, 2)]
    assert [(d.workers, d.target, d.signal) for d in looked.decisions] == [(2, 8, "queue")]
    end()
    end()
    looked.look()
    assert told == [1, 2]
    looked.watch(lambda: told.append(0))
    looked.log.end()
    looked.look()
    assert told == [1, 2, 0], "once when it closes, and never again"


def test_a_watcher_that_fails_stops_nobody(looked: Looked, caplog: pytest.LogCaptureFixture) -> None:
    told: list[int] = []

    def fails() -> None:
        raise KeyError("mine")

    looked.watch(fails)
    looked.watch(lambda: told.append(1))
    with caplog.at_level(logging.ERROR):
        assert looked.look().target == 8
        looked.look()
    assert told == [1, 1]
    assert caplog.text.count("is called no more") == 1


def test_the_picture_leaves_out_where_nothing_happens() -> None:
    moments = [Moment(float(s), 2 if s < 50 else 4, 2 if s < 60 else 4, 0, 0) for s in range(1000)]
    decisions = [Decision(50.0, 2, 4, "queue", "work"), Decision(2000.0, 4, 2, "cpu", "rest")]
    info = workers_info(moments, decisions, 2, 8)
    assert [seen.time_s for seen in info.moments] == [0, 49, 50, 59, 60, 999]
    assert info.steps == (decisions[0],)
    assert info.finding == "4 workers are there; nothing waits"
    one = workers_info([Moment(0.0, 3, 1, 1, 0)], [], 1, 8)
    assert one.finding == "1 worker is there, 2 to come; 1 task waits"
    with pytest.raises(InvalidInputError, match="there is none yet"):
        workers_info([], [], 2, 8)


def test_the_page_shows_the_log(looked: Looked) -> None:
    shown = codesign_widgets.ClusterWatch(looked, interval_s=0.0)
    assert (shown.answer["figure"], shown.answer["rows"], shown.answer["error"]) == (None, [], None)
    looked.look()
    looked.look(arrived=8)
    row = shown.answer["rows"][0]
    assert (row["change"], row["signal"]) == ("2 → 8", "queue")
    assert row["why"] == "40 tasks wait, more than 10"
    assert shown.answer["tiles"][0] == {"label": "Workers", "value": "8", "note": "8 asked for"}
    assert {trace["name"] for trace in shown.answer["figure"]["data"]} == {"there", "asked for", "queue"}
    assert json.loads(json.dumps(shown.answer)), "what goes to the page is plain JSON"
    looked.closed = True
    looked.log.end()
    assert shown.answer["closed"] is True
    shown.close()


def test_the_page_is_told_no_more_than_asked(looked: Looked) -> None:
    shown = codesign_widgets.ClusterWatch(looked, interval_s=1000.0)
    before = shown.answer
    looked.look()
    assert shown.answer == before
    shown.query = {"seq": 1, "span": "The last hour"}
    assert (shown.answer["seq"], shown.answer["span"], len(shown.answer["rows"])) == (1, "The last hour", 1)
    shown.close()
    shown.close()
    after = shown.answer
    looked.look(queued=0)
    assert shown.answer == after
    assert not looked.log._watchers


@pytest.mark.parametrize("query", [7, "x", {}, {"span": "for ever"}, {"span": ["All of it"]}, {"span": {}}])
def test_whatever_a_page_sends_is_answered_in_words(looked: Looked, query: Any) -> None:
    looked.look()
    shown = codesign_widgets.ClusterWatch(looked)
    rows = shown.answer["rows"]
    shown.query = {**query, "seq": 3} if isinstance(query, dict) else query
    assert shown.answer["error"]["text"].startswith("The times to look back are All of it")
    assert shown.answer["error"]["control"] == "span"
    assert shown.answer["rows"] == rows, "the last answer stands"
    shown.close()


def test_a_page_cannot_stop_the_news_by_its_answer(looked: Looked, caplog: pytest.LogCaptureFixture) -> None:
    shown = codesign_widgets.ClusterWatch(looked, interval_s=0.0)
    shown.set_state({"query": {"seq": 2, "span": "The last hour"}})
    shown.set_state({"answer": {"seq": "x"}})
    looked.look()
    assert (shown.answer["seq"], shown.answer["span"], len(shown.answer["rows"])) == (2, "The last hour", 1)
    assert "is called no more" not in caplog.text
    shown.close()


def test_a_wrong_interval_is_refused(looked: Looked) -> None:
    with pytest.raises(InvalidInputError, match="interval_s is -1"):
        codesign_widgets.ClusterWatch(looked, interval_s=-1)


def nap(item: int) -> int:
    time.sleep(0.05)
    return item


def threads_begun(patch: pytest.MonkeyPatch) -> list[str]:
    """The threads that this one starts from now on; Dask's start others when they like."""
    begun: list[str] = []
    here, start = threading.current_thread(), threading.Thread.start

    def noted(one: threading.Thread) -> None:
        if threading.current_thread() is here:
            begun.append(one.name)
        start(one)

    patch.setattr(threading.Thread, "start", noted)
    return begun


@pytest.mark.slow
def test_a_real_cluster_is_watched_without_a_thread() -> None:
    """Work makes it grow while the page follows; closed, it says so."""
    with ck.cluster("aggressive", minimum=1, maximum=2, interval_s=0.1) as started:
        with pytest.MonkeyPatch.context() as patch:
            begun = threads_begun(patch)
            shown = codesign_widgets.ClusterWatch(started, interval_s=0.0)
        assert begun == []
        assert len(dict(started.executor().run(nap, range(300)))) == 300
        assert shown.answer["rows"]
        assert shown.answer["rows"][-1]["change"] == "1 → 2"
        assert not shown.answer["closed"]
        assert len(started.moments) > 3
    assert shown.answer["closed"]
    shown.close()
    with pytest.raises(ClusterError, match="but this one is closed"):
        started.watch(print)


#: A page that follows a cluster whose work begins once the page is there, in a thread beside it.
CELL = """
import threading, time
import codesign_kernel as ck
from codesign_kernel.cluster import Limits
from codesign_widgets import ClusterWatch
limits = Limits(cpu_down_s=2, memory_up=3, memory_down=2, memory_down_s=2, rate_s=2)
cluster = ck.cluster("aggressive", minimum=1, maximum=2, limits=limits, interval_s=0.2)
def work():
    time.sleep(4)
    for _ in cluster.executor().run(time.sleep, [0.05] * 400): pass
    time.sleep(3)
    cluster.close()
threading.Thread(target=work).start()
ClusterWatch(cluster, interval_s=0.5)
"""


def until(tab: Any, told: str, seen: Callable[[], bool], timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not seen():
        assert time.monotonic() < end, told
        tab.wait_for_timeout(100)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_follows_in_a_browser(pages: Served) -> None:
    with browse(pages.page("watch", CELL), ".ckx-watch .ck-plot .main-svg") as tab:
        rows = tab.locator(".ckx-log tbody tr")
        until(tab, "no decision arrived", lambda: rows.count() > 0)
        assert "1 → 2" in rows.last.inner_text()
        tab.select_option(".ckx-watch select", "The last 5 minutes")
        until(tab, "it did not close", lambda: "closed" in tab.inner_text(".ckx-watch .ckx-state"))
        check_looks(tab, "watch")
