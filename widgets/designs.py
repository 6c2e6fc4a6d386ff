"""DesignExplorer: all designs at once, in linked views; limits, pins, the knee and what to take in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import traitlets

from codesign_kernel.errors import CodesignError, InfeasibleDesignError, InvalidInputError
from codesign_kernel.figures.words import design_words, phrases
from codesign_widgets.controls import Control, check
from codesign_widgets.design_columns import Column, as_numbers, choose, describe, encode, span
from codesign_widgets.design_words import against, knee_words, limits_words, told
from codesign_widgets.page import Page, script_of, sentence, style_of

#: Designs that can be pinned, and rows of a page of the table.
PINS, ROWS = 6, 12
#: Designs that fit into a page.
MOST = 1_000_000
#: Axes of the parallel coordinates at first, and at most.
_AXES, _AXES_MOST = 10, 16
#: Numbers of a page end here.
_ENDLESS = 1e300
_OBJECTIVES = ("latency_ms", "energy_uj", "area_mm2")
Ranges = dict[str, tuple[Any, Any]]


class DesignExplorer(Page):
    """A page of all designs of a sweep: scatter, parallel coordinates and table, which show one selection.

    The columns go to the page once, as binary; brushing is drawn there, without the kernel. What the page chose is
    checked here and kept, and worked out again from the designs: nothing that a page says of them is believed.

    Args:
        designs: a frame, one design a row, as ``ck.sweep`` gives it; or an exploration, with its ``frame``,
            ``objectives`` and ``recommend``. Rows whose column ``feasible`` is False, or that lack an objective, are
            counted and never selected.
        objectives: two or three columns to minimise, or ``{column: "min" | "max"}``.
        knee: ``knee(rows, objectives)`` gives the most balanced row, such as ``ck.knee``; none is marked without.
        recommend: ``recommend(limits)`` says what to take (its ``str`` is shown) within ``{column: (least, most)}``.
        evaluate: ``evaluate(conditions)`` gives the frame of the same designs under other conditions, at once; a
            condition is the value of one of ``controls`` or ``choices``.
        controls: conditions that are numbers. choices: conditions that are names, by name (``{"network": [...]}``).
        columns: what else to show; without, what tells the designs apart.

    Attributes:
        choice: what is shown, as plain data: conditions, ranges, pins, cursor, axes.
        frame: the designs under the present conditions.
    """

    fixed = traitlets.Dict().tag(sync=True, kernel=True)
    moving = traitlets.Dict().tag(sync=True, kernel=True)

    _esm = script_of(
        "controls.js",
        "drawing.js",
        "designs_data.js",
        "designs_draw.js",
        "designs_lanes.js",
        "designs_parts.js",
        "designs.js",
    )
    _css = style_of("designs.css", "ckx-explorer")
    frame: Any = None  # until the arguments are checked, as for an object that never came to be

    def __init__(
        self,
        designs: Any,
        objectives: Sequence[str] | Mapping[str, str] | None = None,
        knee: Callable[[Any, dict[str, str]], Any] | None = None,
        recommend: Callable[[dict[str, tuple[float | None, float | None]]], Any] | None = None,
        evaluate: Callable[[dict[str, Any]], Any] | None = None,
        controls: Sequence[Control] = (),
        choices: Mapping[str, Sequence[str]] | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        frame = getattr(designs, "frame", designs)
        if frame is not designs:
            objectives = objectives or designs.objectives
            recommend = recommend or (lambda limits: designs.recommend(within=limits))
        directions = _directions(objectives or _OBJECTIVES)
        if (evaluate is None) != (not controls and not choices):
            raise InvalidInputError(
                "conditions need evaluate=, which works out the designs under them, and evaluate= needs conditions "
                "(controls= or choices=); give both or none"
            )
        names = _check_frame(frame, directions, columns)
        super().__init__()
        self.frame, self._directions, self._knee, self._recommend = frame, directions, knee, recommend
        self._evaluate, self._controls = evaluate, tuple(controls)
        self._choices = {name: tuple(values) for name, values in (choices or {}).items()}
        self._columns = {name: describe(name, frame[name], directions) for name in names}
        self._parameters = [name for name, column in self._columns.items() if not column.result]
        self._spans = {name: span(frame[name]) for name, column in self._columns.items() if not column.text}
        self._conditions: dict[str, Any] = {control.name: control.default for control in self._controls}
        self._conditions |= {name: values[0] for name, values in self._choices.items()}
        self._ranges: Ranges = {}
        self._mask = np.ones(len(frame), dtype=bool)
        self.fixed = {n: encode(frame[n], self._columns[n].result) for n in names} | {"": _labels(frame)}
        self.setup = self._described()
        self.moving = {"version": 0, "spans": self._spans, "columns": {}}
        self.choice = self._first()
        self.tell(0, {"choice": dict(self.choice)})

    def choose(self, **changes: Any) -> None:
        """Show other fields of ``choice``: ``choose(ranges={"latency_ms": (None, 2.0)}, pins=[4])``; what is wrong
        with them stands in ``answer["error"]``."""
        self.tell(None, {"choice": {**self.choice, **changes}})

    @property
    def selected(self) -> Any:
        """The rows of ``frame`` that run and keep all ranges."""
        return self.frame[self._mask]

    @property
    def pinned(self) -> Any:
        """The rows that are pinned, in their order."""
        return self.frame.iloc[self.choice["pins"]]

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        choice = self._checked(asked.get("choice"))
        if choice["conditions"] != self._conditions:
            self._swept(choice["conditions"])
        self._ranges, self.choice = {n: (low, high) for n, (low, high) in choice["ranges"].items()}, choice
        runs = self._runs(self.frame)
        self._mask = self._kept(runs)
        # while a condition moves there is no time for words: the page asks for them when the hand rests
        quick = asked.get("words") is False and "advice" in self.answer
        told = {key: self.answer[key] for key in ("finding", "advice", "pins")} if quick else self._told()
        counts = {"count": int(self._mask.sum()), "runs": int(runs.sum())}
        return {"choice": choice, **counts, "knee": None, **told, "stale": quick}

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        """The condition or the column that the message names."""
        known = [*self._conditions, *sorted(self._columns, key=len, reverse=True)]
        return next((name for name in known if name in message), "")

    def close(self) -> None:
        """Free the designs, here and in the page."""
        self._evaluate = self._knee = self._recommend = None
        super().close()
        if self.frame is not None:
            self.frame, self._mask = self.frame.iloc[:0], self._mask[:0]
            self.choice["pins"] = []

    def _described(self) -> dict[str, Any]:
        told_by = phrases(self._parameters)
        known = {"rows", "cols", *(name for name, _ in told_by)} if self._paired() else {name for name, _ in told_by}
        others = [(n, f"{{}} {self._columns[n].unit} {self._columns[n].label.lower()}") for n in self._parameters]
        return {
            "count": len(self.frame),
            "columns": [column._asdict() for column in self._columns.values()],
            "objectives": [[name, 1 if way == "min" else -1] for name, way in self._directions.items()],
            "controls": [control._asdict() for control in self._controls],
            "choices": {name: list(values) for name, values in self._choices.items()},
            "phrases": [*told_by, *(pair for pair in others if pair[0] not in known)],
            "paired": self._paired(),
            "rows": ROWS,
            "pins": PINS,
        }

    def _paired(self) -> bool:
        return "rows" in self._columns and "cols" in self._columns

    def _first(self) -> dict[str, Any]:
        x, y = [*self._directions][:2]
        results = [n for n in self._columns if n not in self._parameters]
        axes = [*self._parameters[: max(2, _AXES - len(results))], *results][:_AXES_MOST]
        return {
            "conditions": dict(self._conditions), "ranges": {}, "pins": [], "cursor": None, "x": x, "y": y,
            "zoom": None, "solid": False, "axes": [n for n in self._columns if n in axes], "sort": x, "down": False,
            "page": 0,
        }  # fmt: skip

    def _spanned(self, frame: Any) -> dict[str, list[float]]:
        """What the columns span here and under the first conditions: the axes stand while designs move between."""
        spans = {}
        for name, known in self._spans.items():
            seen = [*known, *span(frame[name])] if self._columns[name].result else known
            spans[name] = [min(seen), max(seen)] if seen else []
        return spans

    def _evaluated(self, conditions: dict[str, Any]) -> Any:
        assert self._evaluate is not None
        frame = self._evaluate(dict(conditions))
        missing = [name for name in self._columns if name not in frame.columns]
        if missing or len(frame) != len(self.frame) or not frame.index.equals(self.frame.index):
            raise InvalidInputError(
                f"evaluate gives the same {len(self.frame):,} designs under other conditions, but gave {len(frame):,}"
                + (f" without {', '.join(missing)}" if missing else "")
            )
        return frame

    def _swept(self, conditions: dict[str, Any]) -> None:
        """The designs under ``conditions``, and to the page what changed."""
        frame = self._evaluated(conditions)
        if not self._runs(frame).any():
            raise InfeasibleDesignError("no design runs under these conditions; choose others")
        changed = {
            name: encode(frame[name], True)
            for name, column in self._columns.items()
            if column.result and (name in self.moving["columns"] or not frame[name].equals(self.frame[name]))
        }
        self.frame, self._conditions = frame, dict(conditions)
        self.moving = {"version": self.moving["version"] + 1, "spans": self._spanned(frame), "columns": changed}

    def _runs(self, frame: Any) -> Any:
        runs = np.isfinite(frame[[*self._directions]].to_numpy(dtype=float)).all(axis=1)
        return runs & frame["feasible"].to_numpy(dtype=bool) if "feasible" in frame.columns else runs

    def _kept(self, runs: Any) -> Any:
        """Which designs run and keep all ranges."""
        mask = runs.copy()
        for name, (low, high) in self._ranges.items():
            values = self.frame[name].astype(str) if self._columns[name].text else self.frame[name]
            numbers = values.to_numpy()
            if low is not None:
                mask &= numbers >= low
            if high is not None:
                mask &= numbers <= high
        return mask

    def _told(self) -> dict[str, Any]:
        """What the selection comes to, in words."""
        results = [name for name in self._columns if name not in self._parameters]
        pins = [self.frame.iloc[place] for place in self.choice["pins"]]
        advice, knee = [], None
        if self._mask.any() and self._knee is not None:
            rows = self.selected
            best = self._knee(rows, dict(self._directions))
            knee = int(np.flatnonzero(self._mask)[rows.index.get_loc(best.name)])
            advice.append(knee_words(best, rows, self._directions, self._parameters))
        return {
            "knee": knee,
            "finding": limits_words(self._ranges, self._columns),
            "advice": [*advice, *self._advised()],
            "pins": [
                {
                    "words": f"{design_words(pin, self._parameters)}: {told(pin, self._directions)}",
                    "against": against(pins[0], pin, results, self._parameters, self._columns) if at else "",
                }
                for at, pin in enumerate(pins)
            ],
        }

    def _advised(self) -> list[str]:
        if self._recommend is None or any(self._columns[name].text for name in self._ranges):
            return []
        try:
            return str(self._recommend(dict(self._ranges))).splitlines()
        except CodesignError as error:
            return [sentence(error)]

    def _checked(self, choice: Any) -> dict[str, Any]:
        """``choice`` as a whole and lawful one: untrusted data in."""
        fields = set(self.choice)
        if not isinstance(choice, dict) or set(choice) != fields:
            raise InvalidInputError(f"a choice has the fields {', '.join(sorted(fields))}, and no others")
        rows, columns = len(self.frame), [*self._columns]
        numbers = [name for name, column in self._columns.items() if not column.text]
        return {
            "conditions": self._checked_conditions(choice["conditions"]),
            "ranges": self._checked_ranges(choice["ranges"]),
            "pins": _several("pins", choice["pins"], lambda v: _whole("a pin", v, rows), PINS),
            "cursor": None if choice["cursor"] is None else _whole("the cursor", choice["cursor"], rows),
            "x": _one_of("the horizontal axis", choice["x"], numbers),
            "y": _one_of("the vertical axis", choice["y"], numbers),
            "zoom": None if choice["zoom"] is None else _box(choice["zoom"]),
            "solid": choice["solid"] is True and len(self._directions) == 3,
            "axes": _several("axes", choice["axes"], lambda v: _one_of("an axis", v, columns), _AXES_MOST, 2),
            "sort": _one_of("the order", choice["sort"], columns),
            "down": choice["down"] is True,
            "page": _whole("the page", choice["page"], rows // ROWS + 1),
        }

    def _checked_conditions(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict) or set(given) != set(self._conditions):
            raise InvalidInputError(f"conditions are {', '.join(self._conditions) or 'none here'}, and no others")
        numbers = check(self._controls, {control.name: given[control.name] for control in self._controls})
        return numbers | {name: _one_of(name, given[name], values) for name, values in self._choices.items()}

    def _checked_ranges(self, given: Any) -> dict[str, list[Any]]:
        if not isinstance(given, dict):
            raise InvalidInputError("ranges are pairs (least, most) by column; give a dict")
        found = {}
        for name, pair in given.items():
            column = self._columns[_one_of("a range", name, [*self._columns])]
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise InvalidInputError(f"the range of {column.name} is a pair (least, most); leave one None")
            low, high = (None if value is None else self._bound(column, value) for value in pair)
            if low is not None and high is not None and low > high:
                raise InvalidInputError(
                    f"the range of {column.name} begins at or below its end, but got {low} to {high}; turn them round"
                )
            if low is not None or high is not None:
                found[column.name] = [low, high]
        return found

    def _bound(self, column: Column, value: Any) -> Any:
        if column.text:
            return _one_of(f"a value of {column.name}", value, self.fixed[column.name]["values"])
        if not _finite(value):
            raise InvalidInputError(f"{column.name} is limited by a number, but got {str(value)[:40]!r}")
        return float(value)


def _directions(objectives: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    if isinstance(objectives, str):
        raise InvalidInputError(f"objectives are a list of columns, but got {objectives!r}; write [{objectives!r}]")
    pairs = dict(objectives) if isinstance(objectives, Mapping) else dict.fromkeys(objectives, "min")
    if not 2 <= len(pairs) <= 3 or set(pairs.values()) - {"min", "max"}:
        raise InvalidInputError(
            f'a front is shown for two or three objectives, each "min" or "max", but got {objectives!r}'
        )
    return pairs


def _check_frame(frame: Any, directions: Mapping[str, str], columns: Sequence[str] | None) -> list[str]:
    if not 1 <= len(frame) <= MOST:
        raise InvalidInputError(
            f"an explorer shows 1 to {MOST:,} designs, but got {len(frame):,}; sweep a part of them"
        )
    if not frame.index.is_unique or not frame.columns.is_unique:
        raise InvalidInputError(
            "designs and columns each have a name of their own, but some occur twice; reset_index()"
        )
    names = choose(frame, [*directions], columns)
    wrong = [name for name in directions if frame[name].dtype.kind not in "iuf"]
    if wrong:
        raise InvalidInputError(f"an objective is a column of numbers, but {wrong[0]} is none; choose another")
    return names


def _labels(frame: Any) -> dict[str, Any]:
    """What the designs are called: numbers as binary, or texts."""
    if frame.index.dtype.kind in "iu":
        return as_numbers(frame.index.to_numpy(dtype=float))
    return {"kind": "texts", "values": [str(label) for label in frame.index]}


def _one_of(what: str, value: Any, known: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise InvalidInputError(f"{what} is one of {', '.join(known)}, but got {str(value)[:40]!r}")
    return value


def _box(value: Any) -> list[list[float]]:
    """Where the scatter looks: the ends of both axes."""
    pairs = value if isinstance(value, list) and len(value) == 2 else []
    ends = [pair for pair in pairs if isinstance(pair, list) and len(pair) == 2 and all(map(_finite, pair))]
    if len(ends) != 2 or any(low > high for low, high in ends):
        raise InvalidInputError("zoom is None or the ends of both axes, [[low, high], [low, high]]; give four numbers")
    return [[float(low), float(high)] for low, high in ends]


def _finite(value: Any) -> bool:
    # NaN compares as false; a whole number can be longer than any float
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _ENDLESS


def _whole(what: str, value: Any, end: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < end:
        raise InvalidInputError(f"{what} is a whole number from 0 to {end - 1:,}, but got {str(value)[:40]!r}")
    return value


def _several(what: str, values: Any, each: Callable[[Any], Any], most: int, least: int = 0) -> list[Any]:
    if not isinstance(values, list | tuple) or not least <= len(values) <= most:
        raise InvalidInputError(f"{what} are a list of {least} to {most}; leave some out")
    found = [each(value) for value in values]
    if len({*found}) != len(found):
        raise InvalidInputError(f"{what} are all different; leave out the second of two")
    return found
