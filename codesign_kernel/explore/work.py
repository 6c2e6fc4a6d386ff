"""Who does the work and who remembers it: the two contracts that an exploration is handed, and their plain forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import pandas as pd

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Applies a function to items, here or elsewhere."""

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """(position of an item, what ``function`` made of it), as they complete. ``function`` can be pickled."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Recorder(Protocol):
    """Keeps what is known of one study, so that an exploration that was cut off goes on where it was."""

    def done(self) -> pd.DataFrame:
        """What is known already: one row a design, its index the number of the design."""
        ...

    def add(self, frame: pd.DataFrame) -> None:
        """Keep the rows of ``frame``, which has such an index; a design that is known already is not counted twice."""
        ...

    def state(self, name: str) -> bytes | None:
        """What was kept under ``name``, or None."""
        ...

    def keep(self, name: str, value: bytes) -> None:
        """Keep ``value`` under ``name`` in place of what was there."""
        ...


class Serial:
    """The executor of one process: item after item, in order."""

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        for position, item in enumerate(items):
            yield position, function(item)

    def close(self) -> None:
        """Nothing is held."""


class Memory:
    """The recorder that forgets with the process; handed to a second exploration it resumes the first."""

    def __init__(self) -> None:
        self._frames: list[Any] = []
        self._states: dict[str, bytes] = {}

    def done(self) -> pd.DataFrame:
        import pandas as pd

        if not self._frames:
            return pd.DataFrame(index=pd.Index([], dtype="int64", name="design"))
        whole = pd.concat(self._frames)
        self._frames = [whole[~whole.index.duplicated()]]
        return self._frames[0]

    def add(self, frame: pd.DataFrame) -> None:
        self._frames.append(frame)

    def state(self, name: str) -> bytes | None:
        return self._states.get(name)

    def keep(self, name: str, value: bytes) -> None:
        self._states[name] = value
