"""The structured log: one JSON object a line, with the request and the person it belongs to, and no secret in it.

Whatever is logged by the standard library's ``logging`` (tornado, jupyter_server and voila too) goes through one
handler. A line has ``time``, ``level``, ``event``, ``logger``, and where known ``request_id`` and ``subject`` (the
random name of a person, never another). Query strings, cookies, tokens and passwords are cut out on the way.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from codesign_kernel.errors import OutputError

#: The request that this task works for, and who asked; "" outside of one.
REQUEST_ID: ContextVar[str] = ContextVar("codesign_request_id", default="")
SUBJECT: ContextVar[str] = ContextVar("codesign_subject", default="")

#: What stands where something was cut out.
CUT = "[cut]"
#: A text is no longer than this many characters.
LONGEST = 8_000
#: A log file that is larger is renamed to ``NAME.1``, ``NAME.1`` to ``NAME.2``..., and so many of those are kept:
#: however much is said, it does not fill the disk.
FILE_BYTES, FILES = 32 << 20, 4
#: Loggers that their libraries give handlers of their own, and do not pass on.
STUBBORN = ("tornado", "tornado.access", "tornado.application", "tornado.general", "ServerApp", "Voila", "Gateway")

_LOG = logging.getLogger("codesign")
_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase)?$|secret|token$|cookie|authorization|api[_-]?key|_xsrf|^key$|credential", re.IGNORECASE
)
_PATTERNS = (
    # a header, to the end of its line
    (re.compile(r"(?i)\b(authorization|proxy-authorization|set-cookie|cookie|x-xsrftoken)(['\"]?\s*[:=]\s*)[^\r\n]+"),
     r"\1\2" + CUT),
    (re.compile(r"(?i)\b(bearer|token|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 " + CUT),
    # our own API tokens, wherever they stand
    (re.compile(r"\bcpg_[A-Za-z0-9-]+_[A-Za-z0-9_-]+"), "cpg_" + CUT),
    # user and password of a URL
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@]+@"), r"\1" + CUT + "@"),
    # key=value and "key": "value"
    (re.compile(r"(?i)([\w-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|_xsrf|credential)['\"]?\s*[:=]\s*)"
                r"(\"[^\"]*\"|'[^']*'|[^\s,;&)}\]]+)"), r"\1" + CUT),
    # the query string of an address or path
    (re.compile(r"((?:\b[a-z][a-z0-9+.-]*:/)?/[^\s?\"'<>]*)\?[^\s\"'<>]+"), r"\1?" + CUT),
)  # fmt: skip


def scrub(text: str) -> str:
    """The text without what may be a secret; longer than ``LONGEST`` it is cut short."""
    text = text.encode("utf-8", "replace").decode()  # half of a surrogate pair cannot be written
    text = text if len(text) <= LONGEST else text[:LONGEST] + "..."
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def scrubbed(value: Any, depth: int = 4) -> Any:
    """Plain data without secrets: texts are scrubbed, values of keys that name a secret are cut out."""
    if isinstance(value, Mapping) and depth:
        return {
            str(key): CUT if _SECRET_KEY.search(str(key)) else scrubbed(item, depth - 1) for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)) and depth:
        return [scrubbed(item, depth - 1) for item in value]
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return scrub(str(value))


class JsonLines(logging.Formatter):
    """A record as one line of JSON. ``hidden`` are texts that are secret as such, whatever stands beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: set[str] = set()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
            "logger": record.name,
            "request_id": REQUEST_ID.get(),
            "subject": SUBJECT.get(),
        }
        if not hasattr(record, "event"):
            line["message"] = scrub(record.getMessage())
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["trace"] = scrub("".join(traceback.format_exception(*record.exc_info)))
        line |= scrubbed(getattr(record, "fields", {}))
        text = json.dumps({key: value for key, value in line.items() if value != ""}, ensure_ascii=False, default=str)
        for secret in self.hidden:
            text = text.replace(secret, CUT)
        return text


def event(name: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Write one line: what happened, and plain data about it."""
    _LOG.log(level, "%s", name, extra={"event": name, "fields": fields})


class Log:
    """The process's log, from when it is opened until it is closed; then ``logging`` is as it was before.

    Args:
        path: a file to add to (made with mode 0600, renamed when it is full); standard error without.
        level: the least that is written.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path | None = None, level: int = logging.INFO) -> None:
        self._formatter = JsonLines()
        self._handler = _handler(path)
        self._handler.setFormatter(self._formatter)
        self._level = level
        self._before: list[tuple[logging.Logger, list[logging.Handler], int, bool]] = []
        self._take(logging.getLogger(), level)
        for name in STUBBORN:
            self.adopt(logging.getLogger(name))

    def adopt(self, logger: logging.Logger) -> None:
        """From now on the logger has no handlers of its own, and what it says goes into this log."""
        if all(taken is not logger for taken, *_ in self._before):
            self._before.append((logger, logger.handlers[:], logger.level, logger.propagate))
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(logging.NOTSET)  # Dask silences Tornado's

    def hide(self, secret: str) -> None:
        """Cut this text out of every line, wherever it stands; texts under 6 characters are not taken."""
        if len(secret) >= 6:
            self._formatter.hidden.add(json.dumps(secret, ensure_ascii=False)[1:-1])

    def close(self) -> None:
        """Give every logger back what it had."""
        for logger, handlers, level, propagate in reversed(self._before):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
        self._before.clear()
        self._handler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, root: logging.Logger, level: int) -> None:
        self._before.append((root, root.handlers[:], root.level, root.propagate))
        root.handlers[:] = [self._handler]
        root.setLevel(level)


def _handler(path: Path | None) -> logging.Handler:
    if path is None:
        return _Standard()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _Files(path, maxBytes=FILE_BYTES, backupCount=FILES, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"the log goes to {path}, which cannot be written: {error.strerror or error}") from error


class _Files(RotatingFileHandler):
    """Files that only their owner may read, those that come later too."""

    def _open(self) -> TextIOWrapper:
        return open(os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8")


class _Standard(logging.StreamHandler[TextIO]):
    """Standard error as it is when a line is written, not as it was when the log was opened."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr
