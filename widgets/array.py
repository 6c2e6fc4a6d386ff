"""ArrayAnimator: a systolic array cycle by cycle, from the simulation of its RTL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import traitlets

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.wavefront import DATAFLOWS, wavefront_bytes, wavefront_info
from codesign_widgets.page import Page, script_of, style_of, text_of

#: Size -> (name, most); the least is 1, and 0 for the seed.
SIZES: Mapping[str, tuple[str, int]] = {
    "m": ("Rows of A and C", 16),
    "k": ("Columns of A, rows of B", 16),
    "n": ("Columns of B and C", 16),
    "rows": ("Rows of the array", 16),
    "cols": ("Columns of the array", 16),
    "seed": ("Seed of the numbers", 9999),
}
#: Cycles a second at which a page plays.
SPEEDS = (0.5, 1, 2, 4, 8)
#: Matrices are drawn from -9 to 9: a number and its sum fit their element.
LARGEST = 9
#: Of numbers that a reader types, and characters of a matrix of them.
LARGEST_OWN, _LONGEST = 99, 2_000
#: A number of cycles that no trace has.
_HUGE = 10**9

#: ``source(a, b, dataflow, rows, cols)`` gives the trace.
Source = Callable[[np.ndarray, np.ndarray, str, int, int], Any]


class ArrayAnimator(Page):
    """A page that plays what a systolic array does: operands that move, sums that grow, elements that idle.

    Nothing in it is made up by a rule of drawing: positions and numbers are those of traces, which come from the
    simulation of the RTL.

    Args:
        source: a trace (:class:`codesign_kernel.ArrayTrace`), {label: trace}, or a callable such as
            :func:`codesign_kernel.array_trace`; with it the reader chooses sizes and dataflows.
        m, k, n, rows, cols, seed: what a callable is asked for first: (m, k) @ (k, n) of random numbers from -9 to 9.
        dataflow: what a callable shows first.
        autoplay: plays at once, unless the reader wants less motion.

    Attributes:
        traces: {label: trace} of what is shown and was shown with these sizes. sizes: those chosen.
        own: {"a": text, "b": text} where the reader typed the matrices, else None.
        view: what the reader looks at: label, compare, cycle, pe ([row, column] or None), speed, names,
            follow (["a", row, column], or of "b" or "c", or None).
    """

    view = traitlets.Dict().tag(sync=True)
    #: Where :meth:`show` takes its pages, with a number; a view alone would lose to what a page is about to say of it.
    jump = traitlets.Dict().tag(sync=True, kernel=True)

    _esm = script_of("array_stage.js") + "".join(map(text_of, ("array_words.js", "array_parts.js", "array.js")))
    _css = style_of("array.css", "ckx-animator")

    def __init__(
        self,
        source: Source | Mapping[str, Any] | Any,
        m: int = 8,
        k: int = 4,
        n: int = 8,
        rows: int = 4,
        cols: int = 4,
        seed: int = 0,
        dataflow: str = "ws",
        autoplay: bool = False,
    ) -> None:
        self.traces: dict[str, Any] = {}
        self._packed: dict[str, dict[str, Any]] = {}
        self._source: Source | None = None
        self.sizes: dict[str, int] = {}
        self.own: dict[str, str] | None = None
        labels = DATAFLOWS
        if callable(source):
            if dataflow not in DATAFLOWS:
                raise InvalidInputError(f"dataflow is one of {', '.join(DATAFLOWS)}, but got {dataflow!r}")
            first, self._source = dataflow, source
        else:
            given = source if isinstance(source, Mapping) else {getattr(source, "dataflow", "ws"): source}
            if not given:
                raise InvalidInputError("an animator shows at least one trace, but got none")
            labels = {str(label): DATAFLOWS.get(str(label), str(label)) for label in given}
            first = next(iter(labels))
            for label, trace in given.items():
                self._keep(str(label), trace)
        super().__init__()
        self._labels = tuple(labels)
        self.setup = {
            "labels": labels,
            "sizes": {name: {"label": label, "most": most} for name, (label, most) in SIZES.items()},
            "live": self._source is not None,
            "speeds": list(SPEEDS),
            "autoplay": bool(autoplay),
        }
        wanted = {"m": m, "k": k, "n": n, "rows": rows, "cols": cols, "seed": seed}
        self.answer = {"seq": 0, "error": None, **self.respond({"sizes": wanted, "labels": [first]})}
        chosen = [min(1, side - 1) for side in (self.traces[first].rows, self.traces[first].cols)]
        self.view = {"label": first, "cycle": self._packed[first]["best"], "pe": chosen}

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        wanted = asked.get("labels")
        if not isinstance(wanted, list) or not 1 <= len(wanted) <= len(self._labels):
            raise InvalidInputError(f"a page asks for 1 to {len(self._labels)} traces, but got {str(wanted)[:40]!r}")
        for label in wanted:
            if not isinstance(label, str) or label not in self._labels:
                raise InvalidInputError(f"the traces are {', '.join(self._labels)}, but got {str(label)[:40]!r}")
        if self._source is not None:
            own = asked.get("own")
            a, b, sizes = _typed(own, asked.get("sizes")) if own else _drawn(asked.get("sizes"))
            self._trace(self._source, a, b, sizes, {name: own[name] for name in "ab"} if own else None, wanted)
        return {"sizes": dict(self.sizes), "own": self.own, "traces": dict(self._packed)}

    def show(self, cycle: int, pe: tuple[int, int] | None = None) -> None:
        """Take its pages to a cycle and an element (row, column), also those that play or were just moved."""
        self.view = {**self.view, "compare": False, "cycle": cycle, "pe": None if pe is None else [*pe]}
        place = {name: self.view[name] for name in ("compare", "cycle", "pe")}
        self.jump = {**place, "seq": self.jump.get("seq", 0) + 1}

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        """The size or the matrix that the message names."""
        if message.startswith(("A:", "B:", "matrices")):
            return "own"
        return next((name for name, (label, _) in SIZES.items() if message.startswith(label)), "")

    def _trace(
        self, source: Source, a: np.ndarray, b: np.ndarray, sizes: dict[str, int], own: Any, wanted: list[str]
    ) -> None:
        """Have what is wanted traced; traces of the same matrices are kept, and none is lost if one fails."""
        fresh = sizes != self.sizes or own != self.own
        missing = [label for label in wanted if fresh or label not in self.traces]
        made = {label: source(a, b, label, sizes["rows"], sizes["cols"]) for label in missing}
        if fresh:
            self.traces, self._packed, self.sizes, self.own = {}, {}, sizes, own
        for label, trace in made.items():
            self._keep(label, trace)

    def _keep(self, label: str, trace: Any) -> None:
        try:
            info = wavefront_info(trace)
            places, data = wavefront_bytes(trace)
        except (AttributeError, KeyError) as error:
            raise InvalidInputError(
                f"an animator shows traces of ck.array_trace, but got {type(trace).__name__}"
            ) from error
        self.traces[label] = trace
        self._packed[label] = {
            **info._asdict(),
            "dataflow": trace.dataflow,
            "rows": trace.rows,
            "cols": trace.cols,
            "utilization": trace.utilization,
            "places": places,
            "data": data,
        }

    @traitlets.validate("view")
    def _proper(self, proposal: Mapping[str, Any]) -> dict[str, Any]:
        """What of a view makes sense; a page may say anything."""
        asked = proposal["value"]
        label = asked.get("label")
        if not isinstance(label, str) or label not in self._labels:
            label = next(iter(self._packed))
        # a page may choose what is still being traced: it has the sizes of the others
        trace = self.traces.get(label, next(iter(self.traces.values())))
        longest = max(one.cycles for one in self.traces.values())
        pe = asked.get("pe")
        sides = (trace.rows, trace.cols)
        at = isinstance(pe, (list, tuple)) and len(pe) == 2 and all(map(_within, pe, (0, 0), (s - 1 for s in sides)))
        follow = asked.get("follow")
        matrices = {"a": trace.a, "b": trace.b, "c": trace.result}
        followed = isinstance(follow, (list, tuple)) and len(follow) == 3 and isinstance(follow[0], str)
        followed = followed and follow[0] in matrices
        if followed:
            followed = all(map(_within, follow[1:], (0, 0), (size - 1 for size in matrices[follow[0]].shape)))
        cycle, speed = asked.get("cycle"), asked.get("speed")
        return {
            "label": label,
            "compare": asked.get("compare") is True and len(self._labels) > 1,
            "cycle": min(cycle, longest - 1) if _within(cycle, 0, _HUGE) else 0,
            "pe": [*pe] if at else None,
            "speed": speed if isinstance(speed, (int, float)) and speed in SPEEDS else 2,
            "names": asked.get("names") is True,
            "follow": [*follow] if followed else None,
        }


def _within(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _sizes(asked: Any) -> dict[str, int]:
    """The sizes of a question.

    Raises:
        InvalidInputError: one of them is missing, no integer or out of range.
    """
    if not isinstance(asked, dict):
        raise InvalidInputError(f"sizes are {', '.join(SIZES)}, but got {str(asked)[:40]!r}")
    for name, (label, most) in SIZES.items():
        least, value = int(name != "seed"), asked.get(name)
        if not _within(value, least, most):
            raise InvalidInputError(f"{label}: an integer from {least} to {most}, but got {str(value)[:20]!r}")
    return {name: asked[name] for name in SIZES}


def _drawn(asked: Any) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """A and B of random numbers, and the sizes that were asked for."""
    sizes = _sizes(asked)
    generator = np.random.default_rng(sizes["seed"])
    shapes = (sizes["m"], sizes["k"]), (sizes["k"], sizes["n"])
    a, b = (generator.integers(-LARGEST, LARGEST + 1, shape) for shape in shapes)
    return a, b, sizes


def _typed(own: Any, asked: Any) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """A and B as a reader typed them; they give the sizes of the matrices.

    Raises:
        InvalidInputError: they are no matrices, too large, or cannot be multiplied.
    """
    if not isinstance(own, dict) or not all(isinstance(own.get(name), str) for name in "ab"):
        raise InvalidInputError("matrices of your own are two texts, with a row of numbers in each line")
    a, b = (_matrix(name.upper(), own[name]) for name in "ab")
    if a.shape[1] != b.shape[0]:
        raise InvalidInputError(
            f"B: has a row for each column of A, which has {a.shape[1]}, but has {b.shape[0]}; add or remove some"
        )
    shape = {"m": a.shape[0], "k": a.shape[1], "n": b.shape[1]}
    return a, b, _sizes({**asked, **shape} if isinstance(asked, dict) else asked)


def _matrix(name: str, text: str) -> np.ndarray:
    most = SIZES["m"][1]
    lines = [line.replace(",", " ").split() for line in text[:_LONGEST].splitlines() if line.strip()]
    if not lines or len(lines) > most or len(lines[0]) > most:
        raise InvalidInputError(f"{name}: has 1 to {most} rows and columns; put each row on a line of its own")
    for at, line in enumerate(lines, 1):
        if len(line) != len(lines[0]):
            raise InvalidInputError(
                f"{name}: all rows are as long as the first, of {len(lines[0])}, but row {at} has {len(line)} numbers"
            )
        for word in line:
            digits = word.removeprefix("-").removeprefix("−")
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 3 and int(digits) <= LARGEST_OWN):
                raise InvalidInputError(
                    f"{name}: has whole numbers from -{LARGEST_OWN} to {LARGEST_OWN}, but row {at} has {word[:12]!r}"
                )
    return np.array([[int(word.replace("−", "-")) for word in line] for line in lines])
