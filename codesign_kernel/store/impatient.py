"""A connection to PostgreSQL that gives up where the server says nothing, as a suspended one does."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Self

import psycopg


class ImpatientConnection(psycopg.Connection[Any]):
    """As psycopg's, with an end to waiting. Libpq has a limit for connecting, and none for an answer."""

    silent_s = 20.0

    @classmethod
    def within(cls, silent_s: float, *args: Any, **given: Any) -> Self:
        """Connect; ``silent_s`` without a sign of the server close the connection, and end a statement there.

        Raises:
            psycopg.OperationalError: the server cannot be reached.
        """
        made = cls.connect(*args, **given)
        made.silent_s = silent_s
        # a server that went on would keep a place for each who has given up
        with made.transaction(), made.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, false)", (f"{silent_s * 1000:.0f}",))
        return made

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **given: Any) -> Any:
        """Of psycopg: go on with ``gen`` until it has ended.

        Raises:
            psycopg.OperationalError: nothing came for ``silent_s``; the connection is closed.
        """
        try:
            return super().wait(_limited(gen, self.silent_s), *args, **given)
        except _SilentError:
            self.pgconn.finish()
            raise psycopg.OperationalError(f"it said nothing for {self.silent_s:g} s") from None


class _SilentError(Exception):
    """Nothing came in time."""


def _limited(gen: Generator[Any, Any, Any], silent_s: float) -> Generator[Any, Any, Any]:
    """``gen``, which is told 0 where nothing has come for a while, ended when that has been so for ``silent_s``."""
    until_s = time.monotonic() + silent_s
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                until_s = time.monotonic() + silent_s
            elif time.monotonic() > until_s:
                raise _SilentError
            wanted = gen.send(ready)
    except StopIteration as ended:
        return ended.value
