"""Who gets a place: the queue is in order of arrival, warm kernels serve at once and give way, nobody has too many."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("voila")

from codesign_kernel.scopes import Scope
from codesign_kernel.server import places as module
from codesign_kernel.server.apps import App
from codesign_kernel.server.kernels import Seat
from codesign_kernel.server.places import Places, Wait
from codesign_kernel.server.settings import Settings
from codesign_kernel.store.persons import Person

A, B = (App(name, Scope(name), Path(f"{name}.ipynb")) for name in ("a", "b"))


def somebody(name: str) -> Person:
    return Person(name, name, "user", "password")


def guest(number: int) -> Person:
    return Person(f"g{number}", f"Guest {number}", "guest", "guest")


class Seats:
    """What ``Places`` needs of the kernels, without processes: a seat is taken and freed at once."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.seats: dict[str, Seat] = {}
        self.begun = 0

    async def begin(self, app: App, person: Person | None, secret: str = "", address: str = "") -> str:
        self.begun += 1
        kernel_id = f"k{self.begun}"
        self.seats[kernel_id] = Seat(app, person, address=address)
        await asyncio.sleep(0)
        return kernel_id

    def give(self, kernel_id: str, person: Person, secret: str = "", address: str = "") -> str:
        seat = self.seats[kernel_id]
        page, seat.page, seat.person, seat.address = seat.page or "", None, person, address
        return page

    def of(self, subject: str) -> list[str]:
        return [i for i, seat in self.seats.items() if seat.owner == subject and not seat.ending]

    def end_soon(self, kernel_id: str, reason: str) -> None:
        self.seats[kernel_id].ending = reason

    async def end(self, kernel_id: str, reason: str) -> None:
        del self.seats[kernel_id]

    def warm(self, app: App) -> str:
        self.seats[f"w{len(self.seats)}"] = Seat(app, None, page=f"page of {app.name}")
        return list(self.seats)[-1]


async def prepare(app: App, kernel_id: str) -> str:
    return f"page of {app.name} on {kernel_id}"


def asked(seats: Seats, scene: Any) -> Any:
    """What comes of a scene with the places of these seats."""

    async def run() -> Any:
        return await scene(Places(seats, [A, B], prepare))  # type: ignore[arg-type]

    return asyncio.run(run())


def test_who_comes_first_is_served_first() -> None:
    seats = Seats(max_kernels=2, kernels_per_user=2)

    async def scene(places: Places) -> None:
        assert await places.ask(A, somebody("one")) == ("k1", None)
        assert await places.ask(A, somebody("two")) == ("k2", None)
        assert await places.ask(A, somebody("three")) == Wait(1, 2)
        assert await places.ask(B, somebody("four")) == Wait(2, 3)
        assert await places.ask(A, somebody("three")) == Wait(1, 2), "asking again does not change the order"
        await seats.end("k1", "")
        assert await places.ask(B, somebody("four")) == Wait(2, 3), "the free place is the first one's"
        assert await places.ask(A, somebody("three")) == ("k3", None)
        assert await places.ask(B, somebody("four")) == Wait(1, 2)
        assert places.queued() == 1

    asked(seats, scene)


def test_many_at_once_get_no_more_places_than_there_are() -> None:
    seats = Seats(max_kernels=3, kernels_per_user=1)
    seats.warm(B)

    async def scene(places: Places) -> list[Any]:
        return await asyncio.gather(*(places.ask(A, somebody(f"person {n}")) for n in range(20)))

    given = asked(seats, scene)
    assert sum(not isinstance(one, Wait) for one in given) == 3
    assert [one.place for one in given if isinstance(one, Wait)] == list(range(1, 18))
    assert sum(not seat.ending for seat in seats.seats.values()) == 3


def test_who_has_left_loses_the_place_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    seats = Seats(max_kernels=1)

    async def scene(places: Places) -> None:
        await places.ask(A, somebody("one"))
        await places.ask(A, somebody("gone"))
        assert await places.ask(A, somebody("patient")) == Wait(2, 3)
        monkeypatch.setattr(module, "PATIENCE_S", -1.0)
        assert await places.ask(A, somebody("patient")) == Wait(1, 2)

    asked(seats, scene)


def test_one_person_has_only_so_many() -> None:
    seats = Seats(max_kernels=9, kernels_per_user=2)

    async def scene(places: Places) -> None:
        await places.ask(A, somebody("greedy"))
        await places.ask(B, somebody("greedy"))
        assert await places.ask(A, somebody("greedy")) == Wait(0, 10)
        assert places.queued() == 0
        assert await places.ask(A, somebody("other")) == ("k3", None)

    asked(seats, scene)


def test_guests_from_one_address_have_half_of_the_places_whoever_they_say_they_are() -> None:
    seats = Seats(max_kernels=4, kernels_per_user=1)
    seats.warm(A)

    async def scene(places: Places) -> None:
        assert (await places.ask(A, guest(1), address="here"))[1] == "page of a", "warm or not, it counts"  # type: ignore[index]
        assert await places.ask(A, guest(2), address="here") == ("k1", None)
        assert await places.ask(A, guest(3), address="here") == Wait(1, 10, crowded=True)
        assert await places.ask(B, guest(3), address="here") == Wait(1, 10, crowded=True), "nor of another app"
        assert await places.ask(A, guest(4), address="there") == ("k2", None), "those who wait are in nobody's way"
        assert await places.ask(A, somebody("a person")) == ("k3", None), "who has a name is not counted"
        assert await places.ask(A, guest(3), address="here") == Wait(1, 10, crowded=True)
        assert await places.ask(A, guest(5), address="here") == Wait(1, 10, crowded=True)
        await seats.end("k1", "")
        assert await places.ask(A, guest(5), address="here") == Wait(2, 10, crowded=True), "it is the other's turn"
        assert await places.ask(A, guest(3), address="here") == ("k4", None)

    asked(seats, scene)


def test_the_queue_of_guests_from_one_address_keeps_nobody_else_waiting() -> None:
    seats = Seats(max_kernels=2, kernels_per_user=1, kernels_per_address=1)

    async def scene(places: Places) -> None:
        for name in ("one", "two"):
            await places.ask(A, somebody(name))
        told = [await places.ask(A, guest(number), address="here") for number in range(5)]
        assert told == [Wait(1, 2)] + [Wait(2, 10, crowded=True)] * 4
        assert await places.ask(A, somebody("late")) == Wait(2, 3), "behind the one who may have a place"
        await seats.end("k1", "")
        assert await places.ask(A, somebody("late")) == Wait(2, 3)
        assert await places.ask(A, guest(0), address="here") == ("k3", None)
        await seats.end("k2", "")
        assert await places.ask(A, guest(1), address="here") == Wait(1, 10, crowded=True)
        assert await places.ask(A, somebody("late")) == ("k4", None)

    asked(seats, scene)


def test_guests_who_wait_for_their_own_do_not_keep_kernels_from_being_warmed() -> None:
    seats = Seats(max_kernels=4, kernels_per_user=1, kernels_per_address=1)

    async def scene(places: Places) -> App | None:
        for number in range(2):
            await places.ask(A, guest(number), address="here")
        assert places.queued() == 1
        return places._next_to_warm()

    assert asked(seats, scene) is A


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({}, 4),
        ({"max_kernels": 9}, 4),
        ({"max_kernels": 4}, 3),  # one guest may have so many
        ({"max_kernels": 16, "kernels_per_address": 12}, 12),
    ],
)
def test_the_share_of_an_address(settings: dict[str, int], share: int) -> None:
    assert Settings(**settings).address_share == share  # type: ignore[arg-type]


def test_a_warm_kernel_has_its_page_ready() -> None:
    seats = Seats(max_kernels=3)
    kernel_id = seats.warm(A)
    assert asked(seats, lambda places: places.ask(A, somebody("one"))) == (kernel_id, "page of a")
    assert seats.seats[kernel_id].owner == "one"
    assert seats.begun == 0


def test_a_warm_kernel_of_another_app_gives_way_when_all_places_are_taken() -> None:
    seats = Seats(max_kernels=2)
    seats.warm(A)
    seats.warm(B)

    async def scene(places: Places) -> None:
        assert (await places.ask(A, somebody("one")))[1] == "page of a"
        assert await places.ask(A, somebody("two")) == ("k1", None)
        assert seats.seats["w1"].ending == module.OVER
        assert await places.ask(B, somebody("three")) == Wait(1, 2)

    asked(seats, scene)


def test_kernels_are_warmed_for_the_apps_opened_last_and_half_of_the_places_stay_free() -> None:
    seats = Seats(max_kernels=4, warm_kernels=2)

    async def scene(places: Places) -> list[str]:
        await places.ask(B, somebody("one"))
        places._asked_s = -100.0
        places.open()
        for _ in range(50):
            await asyncio.sleep(0)
        await places.close()
        return [seat.app.name for seat in seats.seats.values() if seat.page]

    assert asked(seats, scene) == ["b", "b"]


@pytest.mark.parametrize("warm", [0, 1])
def test_what_comes_first_is_done_also_where_nothing_is_warmed(warm: int) -> None:
    seats, done = Seats(max_kernels=4, warm_kernels=warm), []

    async def first() -> None:
        done.append(seats.begun)

    async def scene(places: Places) -> None:
        places._first = first
        places.open()
        for _ in range(50):
            await asyncio.sleep(0)
        await places.close()

    asked(seats, scene)
    assert done == [0], "once, before any kernel"
    assert seats.begun == 2 * warm, "one for each of the two apps"


def test_a_kernel_that_is_being_warmed_is_waited_for() -> None:
    seats = Seats(max_kernels=4, warm_kernels=1)

    async def scene(places: Places) -> tuple[str, str | None] | Wait:
        ready = asyncio.Event()

        def slow(app: App, kernel_id: str) -> Coroutine[Any, Any, str]:
            async def page() -> str:
                await ready.wait()
                return "the page"

            return page()

        places._prepare = slow
        places.open()
        for _ in range(5):
            await asyncio.sleep(0)
        asking = asyncio.ensure_future(places.ask(A, somebody("one")))
        await asyncio.sleep(0)
        ready.set()
        given = await asking
        await places.close()
        return given

    assert asked(seats, scene) == ("k1", "the page")
    assert seats.seats["k1"].owner == "one"
