"""What a page may say to a kernel: both forms of a websocket's frame read strictly, and a short list of what passes.

Everything else is refused: no code can be run, and no comm opened but the one by which a page asks for its widgets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

#: The subprotocol whose frames are binary; without it they are JSON, or JSON before the buffers.
BINARY = "v1.kernel.websocket.jupyter.org"
#: What widgets need; no code, no completion, no history, no debugger, no interrupt, no shutdown.
MESSAGES = frozenset({"comm_open", "comm_msg", "comm_close", "comm_info_request", "kernel_info_request"})
#: Comms that a page may open: the one through which it asks for the state of all widgets.
TARGETS = frozenset({"jupyter.widget.control"})
CHANNELS = frozenset({"shell"})
#: Bytes of a frame; a slider's message has 400, an upload goes by the REST API.
MOST_BYTES = 1 << 20
_MOST_PARTS = 64

#: Why a socket is closed: {why: (code of RFC 6455 or of our own from 4000, for people)}.
CLOSES: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "malformed": (1007, "this is no message"),
        "oversize": (1009, "the message is too long"),
        "channel": (1008, "this channel is not open to a page"),
        "message": (1008, "this kind of message is not allowed"),
        "target": (1008, "this comm is not allowed"),
        "rate": (1008, "too many messages"),
        "ended": (4404, "the kernel has ended"),
    }
)


class RefusedFrameError(Exception):
    """A frame that does not pass.

    Attributes:
        why: of :data:`CLOSES`.
    """

    def __init__(self, why: str) -> None:
        super().__init__(CLOSES[why][1])
        self.why = why


@dataclass(frozen=True)
class Rules:
    """What passes. The defaults are the gateway's.

    Attributes:
        messages: kinds of message.
        targets: of ``comm_open``.
        channels: that they may be on.
        most_bytes: of a frame.
    """

    messages: frozenset[str] = MESSAGES
    targets: frozenset[str] = TARGETS
    channels: frozenset[str] = CHANNELS
    most_bytes: int = MOST_BYTES

    def examine(self, frame: str | bytes, protocol: str | None) -> str:
        """The kind of message of a frame that passes.

        Args:
            frame: as it came.
            protocol: the subprotocol that was agreed on.

        Raises:
            RefusedFrameError: it does not pass.
        """
        if len(frame) > self.most_bytes:
            raise RefusedFrameError("oversize")
        try:
            channel, header, content = _binary(frame) if protocol == BINARY else _legacy(frame)
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise RefusedFrameError("malformed") from error
        kind = header.get("msg_type")
        if not isinstance(kind, str) or not isinstance(channel, str) or not isinstance(header.get("msg_id"), str):
            raise RefusedFrameError("malformed")
        if channel not in self.channels:
            raise RefusedFrameError("channel")
        if kind not in self.messages:
            raise RefusedFrameError("message")
        target = content.get("target_name")
        if kind == "comm_open" and not (isinstance(target, str) and target in self.targets):
            raise RefusedFrameError("target")
        return kind


def _binary(frame: str | bytes) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Channel, header and content: 8 bytes for each number, little-endian; the number of offsets, the offsets, and
    between them channel, header, parent header, metadata, content and buffers.
    """
    if isinstance(frame, str):
        raise ValueError("text where bytes are agreed on")
    count = int.from_bytes(frame[:8], "little")
    if not 6 <= count <= _MOST_PARTS or len(frame) < 8 * (count + 1):
        raise ValueError("a wrong number of parts")
    offsets = [int.from_bytes(frame[8 * i : 8 * i + 8], "little") for i in range(1, count + 1)]
    if offsets[0] != 8 * (count + 1) or offsets[-1] != len(frame) or sorted(offsets) != offsets:
        raise ValueError("offsets that are none")
    parts = [frame[start:stop] for start, stop in pairwise(offsets)]
    header, _, _, content = (_object(part) for part in parts[1:5])
    return parts[0].decode("ascii"), header, content


def _legacy(frame: str | bytes) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The same of a frame of JSON, or of JSON and buffers: 4 bytes for each number, big-endian."""
    if isinstance(frame, bytes):
        count = int.from_bytes(frame[:4], "big")
        if not 1 <= count <= _MOST_PARTS or len(frame) < 4 * (count + 1):
            raise ValueError("a wrong number of parts")
        offsets = [int.from_bytes(frame[4 * i : 4 * i + 4], "big") for i in range(1, count + 1)] + [len(frame)]
        if offsets[0] != 4 * (count + 1) or sorted(offsets) != offsets:
            raise ValueError("offsets that are none")
        frame = frame[offsets[0] : offsets[1]]
    message = _object(frame)
    header, content = message["header"], message["content"]
    for part in (header, content, message["parent_header"], message["metadata"]):
        if not isinstance(part, dict):
            raise ValueError("a part is no object")
    if not isinstance(message.get("buffers", []), list):
        raise ValueError("buffers are no list")
    return message["channel"], header, content


def _object(text: str | bytes) -> dict[str, Any]:
    found = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_each_once)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a doubled key could mean one thing here and another in the kernel."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found
