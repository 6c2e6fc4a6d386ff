"""Secrets that were wrong: after some, nobody at that address, or at that name from there, may try for a while."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from codesign_kernel.server.handler import Refused
from codesign_kernel.server.rates import Rates, address_key


class Attempts:
    """Counts wrong secrets in ``Rates``; those that are being checked count as wrong until they turn out right.

    Args:
        rates: counts ``login`` by address, ``name`` by name and address, ``anywhere`` by name.
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._checked: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def one(self, address: str | None, name: str = "", *, careful: bool = True) -> Iterator[Attempt]:
        """One attempt; the block says whether it was :meth:`Attempt.right`.

        Args:
            address: where it comes from.
            name: whose secret it should be, if that is told.
            careful: whether those that are being checked count too; not for API tokens, of which many right ones come
                at once, and which are too long to be found by a few more.

        Raises:
            Refused: 429, too many were wrong; it says when to come back.
        """
        keys = _keys(address, name)
        more = self._checked if careful else Counter[tuple[str, str]]()
        waits = [self._rates.wait(what, who, more[what, who]) for what, who in keys.items()]
        if (wait_s := max((wait for wait in waits if wait is not None), default=None)) is not None:
            minutes = max(1, round(wait_s / 60))
            told = "in a minute" if minutes == 1 else f"in {minutes} minutes"
            raise Refused(
                429, "too_many", f"too many attempts with a wrong password or token; try again {told}", wait_s
            )
        attempt = Attempt()
        self._checked.update(keys.items())
        try:
            yield attempt
        finally:
            self._checked.subtract(keys.items())
            self._checked += Counter()  # forgets those at 0
            if not attempt.was_right:
                for what, who in keys.items():
                    self._rates.take(what, who)


class Attempt:
    """One secret that somebody gave."""

    was_right = False

    def right(self) -> None:
        """It was the right one."""
        self.was_right = True


def _keys(address: str | None, name: str) -> Mapping[str, str]:
    where = address_key(address)
    if not name:
        return {"login": where}
    return {"login": where, "name": f"{where} {name}", "anywhere": name}
