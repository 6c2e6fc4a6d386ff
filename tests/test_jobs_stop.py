"""Stopping jobs: those that wait, those that run, and those that are between the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from apicases import Here, service
from cells import until
from test_jobs import SCOPE, Made, ended, explore, made

__all__ = ["made"]  # a fixture


def test_stopping_one_that_waits_and_one_that_runs(made: Made) -> None:
    first = made.jobs.submit(made.ann.subject, SCOPE, "explore", explore(1))[0].id
    second = made.jobs.submit(made.ann.subject, SCOPE, "explore", explore(2))[0].id
    assert made.jobs.stop(made.ann.subject, second).state == "stopped"  # type: ignore[union-attr]
    made.jobs.start()
    assert until(lambda: bool(made.runner.batches))
    made.jobs.stop(made.ann.subject, first)
    assert ended(made.jobs, made.ann.subject, first).state == "stopped"
    assert made.jobs.stop(made.ann.subject, first).state == "stopped"  # type: ignore[union-attr]
    bob = made.people.add("bob", "user")
    assert made.jobs.stop(bob.subject, first) is None


def test_stopping_one_of_a_batch_puts_the_others_back(made: Made) -> None:
    ids = [made.jobs.submit(made.ann.subject, SCOPE, "profile", {"model": m})[0].id for m in ("cnn", "lenet5")]
    made.jobs.start()
    assert until(lambda: bool(made.runner.batches))
    made.jobs.stop(made.ann.subject, ids[0])
    assert ended(made.jobs, made.ann.subject, ids[0]).state == "stopped"
    made.runner.hold.set()
    row = ended(made.jobs, made.ann.subject, ids[1])
    assert (row.state, row.attempt) == ("done", 1)


def test_stopping_what_is_just_being_put_back(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the row that waits again and the end of the batch that had it."""
    ids = [made.jobs.submit(made.ann.subject, SCOPE, "profile", {"model": m})[0].id for m in ("cnn", "lenet5")]
    back = made.jobs.table.back

    def late(jobs: list[str], event: Any, *, count: bool) -> None:
        back(jobs, event, count=count)
        made.jobs.stop(made.ann.subject, ids[1])

    monkeypatch.setattr(made.jobs.table, "back", late)
    made.jobs.start()
    assert until(lambda: bool(made.runner.batches))
    made.jobs.stop(made.ann.subject, ids[0])
    assert ended(made.jobs, made.ann.subject, ids[0]).state == "stopped"
    made.runner.hold.set()
    assert ended(made.jobs, made.ann.subject, ids[1]).state == "stopped"
    assert made.runner.batches == [(made.ann.subject, ids)]


def test_what_was_put_back_and_taken_again_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread begins it before the batch that had it has ended."""
    runner = Here()
    jobs, people, store = service(tmp_path, runner, max_jobs=3, jobs_per_user=2)
    ann = people.add("ann", "user").subject
    ids = [jobs.submit(ann, SCOPE, "profile", {"model": m})[0].id for m in ("cnn", "lenet5")]
    back = jobs.table.back

    def taken() -> bool:
        return ids[1:] in [batch for _, batch in runner.batches]

    def slow(those: list[str], event: Any, *, count: bool) -> None:
        back(those, event, count=count)
        if those == ids[1:]:
            until(taken)

    monkeypatch.setattr(jobs.table, "back", slow)
    try:
        jobs.start()
        assert until(lambda: bool(runner.batches))
        jobs.stop(ann, ids[0])
        assert until(lambda: taken() and jobs._busy[ann] == 1)  # the first one is over
        jobs.stop(ann, ids[1])
        assert ended(jobs, ann, ids[1]).state == "stopped"
        assert until(lambda: jobs._busy[ann] == 0)
    finally:
        runner.hold.set()
        jobs.close()
        store.close()
