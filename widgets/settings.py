"""Settings: what can be chosen in an app, what it comes to at once, and a deed that takes longer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import traitlets

from codesign_kernel.errors import CodesignError, InvalidInputError
from codesign_widgets.controls import Control, check
from codesign_widgets.page import Page, script_of, sentence, style_of

_LOG = logging.getLogger(__name__)
#: How long :meth:`Settings.close` waits for a deed under way (s).
_PATIENCE_S = 10.0
Values = dict[str, Any]
Progress = Callable[[int, int, str], None]


class Choice(NamedTuple):
    """One of several words, or some of them.

    Attributes:
        name: of the value. label, help: what a person reads; ``help`` explains the term in one sentence.
        options: {value: word}.
        default: a value; where some may be chosen, those that are.
        some: at least one may be chosen, else exactly one.
    """

    name: str
    label: str
    options: Mapping[str, str]
    default: str | tuple[str, ...]
    help: str
    some: bool = False


class Settings(Page):
    """A page of choices. What they come to is told at once; what takes longer is done at the press of a button.

        Settings([Choice("dataflow", ...), Control("rows", ...)], expect, "Generate", make, archive)

    Args:
        fields: what can be chosen.
        expect: from the values by name to tiles (``label``, ``value``, ``note``): what the choice comes to. It raises a
            CodesignError whose message begins with the name of the field that is to blame.
        label: of the button; no button without.
        deed: ``deed(values, progress)``, run in a thread of the kernel when the button is pressed.
        archive: (name of a file, its bytes): what a page may download once the deed is done.
        begin: do the deed once at first, with the defaults.

    Attributes:
        values: the last that made sense. state: "ready", "running", "done" or "failed".
    """

    #: What is downloaded: {"name", "count"}, and the bytes.
    parcel = traitlets.Dict().tag(sync=True, kernel=True)
    parcel_bytes = traitlets.Bytes().tag(sync=True, kernel=True)

    _esm = script_of("controls.js", "settings.js")
    _css = style_of("settings.css", "ckx-settings")
    _thread: threading.Thread | None = None

    def __init__(
        self,
        fields: Sequence[Choice | Control],
        expect: Callable[[Values], list[dict[str, str]]],
        label: str = "",
        deed: Callable[[Values, Progress], Any] | None = None,
        archive: Callable[[], tuple[str, bytes]] | None = None,
        begin: bool = False,
    ) -> None:
        if not fields or bool(label) != (deed is not None):
            raise InvalidInputError("settings have fields, and a label where they have a deed; give both or none")
        super().__init__()
        self._fields, self._expect, self._deed, self._archive = tuple(fields), expect, deed, archive
        self.values: Values = {field.name: _usual(field) for field in fields}
        self.state, self._doing, self._failure, self._stale = "ready", "", "", False
        self._tiles: list[dict[str, str]] = []
        self._done: list[Callable[[], object]] = []
        self._turn = threading.RLock()  # the deed's thread and the page's questions take turns
        self._closed = False
        self.setup = {
            "fields": [_told(field) for field in fields],
            "label": label,
            "archive": archive is not None,
        }
        self.tell(0, {"do": "run" if begin else "look", "values": self.values})

    def when_done(self, told: Callable[[], object]) -> None:
        """Have ``told`` called after each deed that succeeded, in its thread; now too, if one has already."""
        with self._turn:
            self._done.append(told)
            if self.state == "done":
                told()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether the deed under way has ended by then."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self.state != "running"

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        deed = asked.get("do")
        if deed not in ("look", "run", "fetch"):
            raise InvalidInputError(f"a page asks to look, run or fetch, but got {str(deed)[:40]!r}")
        if deed == "fetch":
            self._fetch()
        else:
            values = checked(self._fields, asked.get("values"))
            if values != self.values:
                self._stale = True  # what was made is of other values
            self.values = values
            self._tiles = self._expect(values)
            if deed == "run":
                self._begin()
        return self._said()

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        names = [field.name for field in self._fields]
        return next((name for name in names if message.startswith(name) or f"{name} = " in message), "")

    def tell(self, seq: int | None, asked: dict[str, Any]) -> None:
        with self._turn:
            super().tell(seq, asked)

    def close(self) -> None:
        self._closed = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE_S)
        super().close()

    def _said(self) -> dict[str, Any]:
        return {
            "values": self.values,
            "tiles": self._tiles,
            "state": self.state,
            "doing": self._doing,
            "failure": self._failure,
            "stale": self._stale,
        }

    def _begin(self) -> None:
        if self._deed is None:
            raise InvalidInputError("there is nothing to be done here but to choose")
        if self.state == "running":
            raise InvalidInputError("one of these runs at a time; wait for its end")
        self.state, self._failure, self._stale = "running", "", False
        self._thread = threading.Thread(
            target=self._work, args=(self._deed, self.values), name="codesign settings", daemon=True
        )
        self._thread.start()

    def _fetch(self) -> None:
        if self._archive is None or self.state != "done":
            raise InvalidInputError("there is nothing to download before it is made")
        name, content = self._archive()
        with self.hold_sync():
            self.parcel_bytes = content
            self.parcel = {"name": name, "count": self.parcel.get("count", 0) + 1}

    def _work(self, deed: Callable[[Values, Progress], Any], values: Values) -> None:
        """The deed, in its thread; whatever happens, the page says that it is over."""
        state, failure = "failed", "It ended for a reason that the kernel's log has."
        try:
            deed(values, self._progressed)
            state, failure = "done", ""
        except CodesignError as error:
            failure = sentence(error)
        except Exception as error:  # the outermost edge of a thread
            _LOG.exception("a deed of an app failed")
            failure = f"This failed ({type(error).__name__}); the kernel's log has the details."
        finally:
            with self._turn:
                self.state, self._failure, self._doing = state, failure, ""
                self._news()
                if state == "done" and not self._closed:
                    for told in self._done:
                        told()

    def _progressed(self, done: int, total: int, what: str) -> None:
        with self._turn:
            self._doing = f"{done:,} of {total:,} {what}" if total else what
            self._news()

    def _news(self) -> None:
        if not self._closed:
            self.answer = {**self.answer, **self._said()}


def checked(fields: Iterable[Choice | Control], values: Any) -> Values:
    """``values`` as a whole and lawful set: untrusted data in, known words and numbers within their ranges out.

    Raises:
        InvalidInputError: something is missing, unknown or out of range; the message names the field.
    """
    known = {field.name: field for field in fields}
    if not isinstance(values, dict) or set(values) != set(known):
        raise InvalidInputError(f"there is a value for each of {', '.join(known)}, and for nothing else")
    found: Values = {}
    for name, field in known.items():
        if isinstance(field, Control):
            found |= check([field], {name: values[name]})
        else:
            found[name] = _chosen(field, values[name])
    return found


def _chosen(field: Choice, value: Any) -> Any:
    given = value if isinstance(value, list | tuple) and field.some else [value]
    lawful = all(isinstance(one, str) and one in field.options for one in given)
    if not lawful or not given or len(set(given)) != len(given):
        what = "one or more" if field.some else "one"
        raise InvalidInputError(f"{field.name} is {what} of {', '.join(field.options)}, but got {str(value)[:40]!r}")
    return [name for name in field.options if name in given] if field.some else value


def _usual(field: Choice | Control) -> Any:
    return list(field.default) if isinstance(field.default, tuple) else field.default


def _told(field: Choice | Control) -> dict[str, Any]:
    if isinstance(field, Control):
        return {"kind": "number", **field._asdict()}
    kind = "some" if field.some else "one"
    return {"kind": kind, **field._asdict(), "options": list(field.options.items()), "default": _usual(field)}
