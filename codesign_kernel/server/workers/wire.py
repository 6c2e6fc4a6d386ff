"""Messages on a stream: four bytes of length, then JSON, or JSON and behind a line's end bytes that it speaks of."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

#: Bytes of a message at most: of a job's process, and of the host's answers, which are what one item came to.
ASKED_BYTES, ANSWER_BYTES = 4 << 20, 256 << 20
_HEAD = 4


class Garbled(OSError):
    """The other end sent what is no message."""


def send(sock: socket.socket, told: Mapping[str, Any], body: bytes = b"") -> None:
    """Send one message.

    Raises:
        OSError: the other end is gone.
    """
    message = json.dumps(told, allow_nan=False).encode() + (b"\n" + body if body else b"")
    sock.sendall(len(message).to_bytes(_HEAD, "big") + message)


def receive(sock: socket.socket, most: int) -> tuple[dict[str, Any], bytes] | None:
    """(what was told, the bytes behind it); ``None``: the other end has closed.

    Raises:
        Garbled: it is longer than ``most``, was cut off, or is no JSON object.
        OSError: the connection broke.
    """
    head = _exactly(sock, _HEAD)
    if not head:
        return None
    size = int.from_bytes(head, "big")
    if len(head) < _HEAD or size > most:
        raise Garbled(f"a message has at most {most:,} bytes, but this says {size:,}")
    message = _exactly(sock, size)
    if len(message) < size:
        raise Garbled("a message was cut off")
    text, _, body = message.partition(b"\n")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Garbled("a message is JSON, but this is not") from error
    if not isinstance(told, dict):
        raise Garbled("a message is a JSON object, but this is not")
    return told, body


def _exactly(sock: socket.socket, size: int) -> bytes:
    """``size`` bytes, or fewer where the other end closes before."""
    found = bytearray()
    while len(found) < size and (piece := sock.recv(min(1 << 20, size - len(found)))):
        found += piece
    return bytes(found)
