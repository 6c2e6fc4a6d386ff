"""What comes back from a gateway: when to ask again, what a refusal says, and the events of a stream."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from codesign_kernel.errors import ServiceError

if TYPE_CHECKING:
    import httpx

#: Attempts where the gateway asks to come back or cannot be reached, the longest pause between two (s), and how long
#: one request may take (s).
ATTEMPTS, PAUSE_S, TIMEOUT_S = 6, 30.0, 60.0
#: Statuses after which asking again helps.
AGAIN = (429, 502, 503, 504)


def pause_s(attempt: int, told: str | None) -> float:
    """Seconds to wait: what the gateway says, else twice as long each time; a little at random."""
    asked = float(told) if told is not None and told.isdigit() else 0.2 * 2**attempt
    return min(PAUSE_S, asked) * (1.0 + 0.2 * random.random())


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, where it is none that refuses.

    Raises:
        ServiceError: it is, with what it says.
    """
    if answer.status_code < 400:
        return answer
    try:
        told = answer.json()["error"]
        code, message = str(told["code"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "", f"the gateway answered {answer.status_code}"
    raise ServiceError(message, answer.status_code, code)


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(event, number, data) of server-sent events."""
    kind, number, data = "message", 0, ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield kind, number, json.loads(data)
            kind, data = "message", ""
        elif name == "event":
            kind = value
        elif name == "id" and value.isdigit():
            number = int(value)
        elif name == "data":
            data += value
