"""Whose turn it is: one person never has the last runner of the job service where there are others."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apicases import Here, service

from codesign_kernel.scopes import Scope
from codesign_kernel.server.jobs import Jobs
from codesign_kernel.server.services import others
from codesign_kernel.server.settings import Settings
from codesign_kernel.store import Store
from codesign_kernel.store.people import People

SCOPE = Scope("s", capabilities=frozenset({"explore"}))


@contextlib.contextmanager
def working(folder: Path, **settings: Any) -> Iterator[tuple[Jobs, Here, str, str]]:
    """A job service that works, its runner, whose jobs go on until it is let go, and two people."""
    runner = Here()
    jobs, people, store = service(folder, runner, **settings)
    try:
        yield jobs, runner, people.add("ann", "user").subject, people.add("bob", "user").subject
    finally:
        runner.hold.set()
        jobs.close()
        store.close()


def submit(jobs: Jobs, owner: str, count: int) -> None:
    """Hand in explorations that nobody has asked for before."""
    for number in range(count):
        jobs.submit(owner, SCOPE, "explore", {"network": "cnn", "space": "default", "seed": number})


def begun(runner: Here, count: int) -> list[str]:
    """Whose jobs have begun, when so many have."""
    for _ in range(24_000):
        if len(runner.batches) >= count:
            break
        time.sleep(0.005)
    return [owner for owner, _ in runner.batches]


def test_who_comes_later_does_not_wait_for_long_work_of_another(tmp_path: Path) -> None:
    """With the settings that there are by default."""
    with working(tmp_path) as (jobs, runner, ann, bob):
        assert (jobs.settings.max_jobs, jobs.settings.jobs_per_user) == (2, 2)
        submit(jobs, ann, 3)
        jobs.start()
        assert begun(runner, 1) == [ann]
        submit(jobs, bob, 1)
        assert begun(runner, 2) == [ann, bob], "the second runner was kept"
        runner.hold.set()
        assert sorted(begun(runner, 4)) == sorted([ann, ann, ann, bob])


@pytest.mark.parametrize(
    ("settings", "alone", "most"),
    [
        ({"max_jobs": 2, "jobs_per_user": 2}, True, 2),
        ({"max_jobs": 4, "jobs_per_user": 9}, True, 4),
        ({"max_jobs": 4, "jobs_per_user": 9}, False, 3),
        ({"max_jobs": 4, "jobs_per_user": 2}, False, 2),
        ({"max_jobs": 1, "jobs_per_user": 2}, False, 1),  # the only one cannot be kept
    ],
)
def test_how_many_runners_one_person_has(tmp_path: Path, settings: dict[str, int], alone: bool, most: int) -> None:
    with working(tmp_path, others=lambda: not alone, **settings) as (jobs, runner, ann, bob):
        submit(jobs, ann, 5)
        jobs.start()
        assert begun(runner, most) == [ann] * most
        if most < settings["max_jobs"]:
            submit(jobs, bob, 1)
            assert begun(runner, most + 1) == [ann] * most + [bob]


def test_who_is_alone_is_known(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db") as store:
        people, mine = People(store), Settings(data_dir=tmp_path)
        people.add("owner", "admin", provider="local")
        assert not others(mine, people)
        assert others(Settings(data_dir=tmp_path, guests=True), people)
        assert others(Settings(data_dir=tmp_path, identity="password"), people)
        people.add("bob", "user")  # whose API token opens the gateway too
        assert others(mine, people)
