"""What one job may have evaluated: made of the gateway's own words about it, and asked by numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.explore.front import Block, Piece, pieces_of
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.search import Evaluation

#: Items of one message at most, and numbers of designs of one item.
ITEMS, NUMBERS = 200_000, 200_000


class Asked:
    """One exploration: its evaluations, and how many designs of it there may still be.

    Args:
        told: of the gateway: ``request`` (of the job, checked) and ``designs`` (the limit of its scope).
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        from codesign_kernel.server.work import exploration_of
        from codesign_kernel.session.explore import evaluator

        self.left = int(told["designs"])
        work, self.space, objectives, limits = exploration_of(told["request"])
        self.evaluate, self._chunk = evaluator(work, self.space)
        self.goal = Goal.of(objectives, limits)

    @cached_property
    def _pieces(self) -> dict[int, Piece]:
        """The pieces of a sweep by their first design."""
        if self.space.size > self.left:
            raise InvalidInputError(f"a sweep has at most {self.left:,} designs here, but this has {self.space.size:,}")
        return {piece[0]: piece for piece in pieces_of(self.space, self._chunk)}

    def work(self, told: Mapping[str, Any]) -> tuple[Callable[[Any], Any], list[Any]]:
        """(the evaluation, its items) of a message of the job's process.

        Raises:
            InvalidInputError: it is no such message, or asks for more designs than there may be.
        """
        items = _numbers(told.get("items"), self.space.size)
        if told.get("run") == "evaluate":
            self._take(sum(map(len, items)))
            return Evaluation(self.space, self.evaluate, self.goal), [np.array(item, dtype=np.int64) for item in items]
        if told.get("run") == "front":
            known = self._pieces
            if unknown := next((n for item in items for n in item if n not in known), None):
                raise InvalidInputError(f"a piece of a sweep begins with one of its designs, but got {unknown}")
            found = [[known[number] for number in item] for item in items]
            self._take(sum(math.prod(map(len, piece[1].values())) for item in found for piece in item))
            return Block(self.evaluate, self.goal), found
        raise InvalidInputError("designs are asked to be evaluated, or their front, but this asks for something else")

    def _take(self, designs: int) -> None:
        if designs > self.left:
            raise InvalidInputError(f"designs: {self.left:,} are left of the scope's limit, but got {designs:,}")
        self.left -= designs


def _numbers(items: Any, size: int) -> list[list[int]]:
    """Lists of numbers of designs, each in its list at least one."""
    if not isinstance(items, list) or not 0 < len(items) <= ITEMS:
        raise InvalidInputError(f"items are a list of 1 to {ITEMS:,}, but got something else")
    for item in items:
        if not isinstance(item, list) or not 0 < len(item) <= NUMBERS:
            raise InvalidInputError(f"an item is a list of 1 to {NUMBERS:,} numbers, but got something else")
        if not all(type(number) is int and 0 <= number < size for number in item):
            raise InvalidInputError(f"a number of a design is whole and of 0 to {size - 1:,}, but got something else")
    return items
