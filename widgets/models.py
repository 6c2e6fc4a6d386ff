"""ModelExplorer: a model's layers as a graph, a table and over time, and two models beside one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import models, operators, theme, timeline
from codesign_kernel.figures.models import MEASURES, ModelInfo, Profiled, Sums
from codesign_kernel.figures.words import percent, times
from codesign_kernel.units import quantity
from codesign_widgets.page import Page, script_of, style_of, text_of

#: Nodes of the graph that is shown first: the finest with at most so many.
_NODES = 400
#: Columns by which the table can be sorted.
COLUMNS = ("name", "op", "shape", *MEASURES, "other", "ratio")
_LONGEST = 300


class ModelExplorer(Page):
    """A page about one or several profiled models.

    The graph, the table, the chart of layers and the memory over time are views of the same layers: what is selected
    in one is marked in all. The table is of layers or of modules, whose sums roll up. A second model stands beside
    the first: in the key figures, by operator, and in the table, layer by layer of the same name.

    What the page sends is checked here: a question (``query``) is answered or refused in words, and of ``chosen`` what
    is no choice is dropped.

    Args:
        profiles: label -> Profile, or one Profile.

    Attributes:
        chosen: what the reader chose: model, other ("" or a second model), measure, level of the graph, by ("layers"
            or "modules"), sort ([column, 1 or -1] or None), text, op, open (paths of modules), selected
            (["layer" or "module", name] or None), zoom. It is kept in the notebook's widget state.

    Raises:
        InvalidInputError: no profile is given, or one is none or has no layer.
    """

    chosen = traitlets.Dict().tag(sync=True)

    _esm = script_of("models_graph.js") + "".join(map(text_of, ("models_table.js", "models_chart.js", "models.js")))
    _css = style_of("models.css", "ckx-models")

    _kept: Mapping[str, Any]  # what was chosen last, and lawful

    def __init__(self, profiles: Mapping[str, Profiled] | Profiled) -> None:
        named = profiles if isinstance(profiles, Mapping) else {str(getattr(profiles, "name", "")): profiles}
        if not named:
            raise InvalidInputError("a model explorer shows at least one profile, but got none")
        self._models = {str(label): _named(models.model_info(profile), str(label)) for label, profile in named.items()}
        self._kept = _DEFAULTS
        super().__init__()
        first = next(iter(self._models.values()))
        self.setup = {
            "models": {label: {**_page(info), "start": _start(info)} for label, info in self._models.items()},
            "measures": {name: measure._asdict() for name, measure in MEASURES.items()},
            "shown": list(timeline.SHOWN),
        }
        self.chosen = {**_DEFAULTS, "model": first.name, **_start(first)}
        self.tell(0, {"model": first.name, "other": "", "measure": "macs"})

    def add(self, label: str, profile: Profiled, keep: int = 4) -> None:
        """Show another profile first; of the others the ``keep - 1`` that came last stay to compare it with."""
        info = _named(models.model_info(profile), label)
        others = [known for name, known in self._models.items() if name != label]
        self._models = {label: info, **{known.name: known for known in others[: keep - 1]}}
        chosen = {**self.chosen, "model": label, "other": "", "open": [], "op": "", "text": "", **_start(info)}
        with self.hold_sync():
            self.setup = {
                **self.setup,
                "models": {n: {**_page(one), "start": _start(one)} for n, one in self._models.items()},
            }
            self.chosen = chosen
            self.tell(None, {name: chosen[name] for name in ("model", "other", "measure")})

    @property
    def selected(self) -> str | None:
        """The name of the layer, or the path of the module, that is selected."""
        selected = self.chosen["selected"]
        return None if selected is None else str(selected[1])

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        info = self._model(asked.get("model"))
        other = None if asked.get("other") == "" else self._model(asked.get("other"))
        measure = asked.get("measure")
        if not isinstance(measure, str) or measure not in timeline.SHOWN:
            raise InvalidInputError(f"a measure is one of {', '.join(timeline.SHOWN)}, but got {str(measure)[:40]!r}")
        compared = None if other is None else operators.operators_info(info, other, measure)
        return {
            "model": info.name,
            "other": "" if other is None else other.name,
            "measure": measure,
            "tiles": _tiles(info, other),
            "timeline": theme.page_spec(timeline.timeline_figure(info, measure, other), "layers"),
            "operators": theme.page_spec(operators.operators_figure(compared), "operators") if compared else None,
        }

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        return "measure" if message.startswith("a measure") else "model"

    def _model(self, label: object) -> ModelInfo:
        if not isinstance(label, str) or label not in self._models:
            raise InvalidInputError(f"the models here are {', '.join(self._models)}, but got {str(label)[:40]!r}")
        return self._models[label]

    @traitlets.validate("chosen")
    def _cleaned(self, proposal: Mapping[str, Any]) -> dict[str, Any]:
        """The proposal without what is no choice: in its place stands what was chosen before."""
        new: dict[str, Any] = proposal["value"]
        # not self.chosen: what a page sends stands there already when it is validated
        old = self._kept
        kept = {name: new[name] if name in new and self._lawful(name, new[name]) else old[name] for name in _DEFAULTS}
        if not kept["model"]:
            kept["model"] = next(iter(self._models))
        levels = len(self._models[kept["model"]].levels)
        self._kept = {**kept, "level": min(kept["level"], levels - 1)}
        return dict(self._kept)

    def _lawful(self, name: str, value: Any) -> bool:
        match name:
            case "model" | "other":
                return isinstance(value, str) and (value in self._models or (name == "other" and value == ""))
            case "measure":
                return isinstance(value, str) and value in timeline.SHOWN
            case "by":
                return value in ("layers", "modules")
            case "level":
                return type(value) is int and 0 <= value < 100
            case "zoom":
                return type(value) in (int, float) and 0.05 <= value <= 4
            case "text" | "op":
                return isinstance(value, str) and len(value) <= _LONGEST
            case "open":
                paths = {row.path for info in self._models.values() for row in info.modules}
                return (
                    isinstance(value, list)
                    and len(value) <= len(paths)
                    and all(isinstance(one, str) and one in paths for one in value)
                )
            case "sort":
                return value is None or (_pair(value) and value[0] in COLUMNS and value[1] in (1, -1))
            case _:
                return value is None or (_pair(value) and self._known(value[0], value[1]))

    def _known(self, kind: object, name: object) -> bool:
        if kind == "layer":
            return any(row.name == name for info in self._models.values() for row in info.layers)
        return kind == "module" and any(row.path == name for info in self._models.values() for row in info.modules)


_DEFAULTS: dict[str, Any] = {
    "model": "",
    "other": "",
    "measure": "macs",
    "level": 0,
    "by": "layers",
    "sort": None,
    "text": "",
    "op": "",
    "open": [],
    "selected": None,
    "zoom": 1,
}


def _start(info: ModelInfo) -> dict[str, Any]:
    """What is shown of a model first: the finest graph of moderate size, and the layer where memory peaks."""
    sizes = [len(level.nodes) for level in info.levels]
    level = next((i for i, size in enumerate(sizes) if size <= _NODES), len(sizes) - 1)
    heavy = max(range(len(info.layers)), key=lambda i: info.layers[i].sums.macs)
    return {"level": level, "selected": ["layer", info.layers[heavy if info.peak is None else info.peak].name]}


def _pair(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and type(value[1]) in (int, str)


def _named(info: ModelInfo, label: str) -> ModelInfo:
    return info._replace(name=label)


def _page(info: ModelInfo) -> dict[str, Any]:
    """A model as columns of plain data."""
    memory = [
        [info.tensor_name(one.producer), one.first, one.last, quantity(one.bytes, "B"), one.bytes]
        for one in info.activations
    ]
    return {
        "name": info.name,
        "layers": {
            "name": [row.name for row in info.layers],
            "op": [row.op for row in info.layers],
            "shape": [row.shape for row in info.layers],
            "module": [row.module for row in info.layers],
            **_columns([row.sums for row in info.layers]),
        },
        "modules": {
            "name": [row.path for row in info.modules],
            "parent": [row.parent for row in info.modules],
            "layers": [row.layers for row in info.modules],
            **_columns([row.sums for row in info.modules]),
        },
        "levels": [
            {
                "label": level.label,
                "name": [node.name for node in level.nodes],
                "op": [node.op for node in level.nodes],
                "layers": [node.layers for node in level.nodes],
                **_columns([node.sums for node in level.nodes]),
                "edges": level.edges,
                **level.placed._asdict(),
            }
            for level in info.levels
        ],
        "activations": memory,
        "peak": info.peak,
    }


def _columns(sums: Sequence[Sums]) -> dict[str, Any]:
    """For each measure its values, and ``text``: the same as people write them."""
    values = {name: [one.value(name) for one in sums] for name in MEASURES}
    return {**values, "text": {name: [one.text(name) for one in sums] for name in MEASURES}}


def _tiles(info: ModelInfo, other: ModelInfo | None) -> list[dict[str, str]]:
    """The key figures; of two models both, and how the second compares."""
    notes = {
        "parameters": quantity(info.parameter_bytes, "B"),
        "macs": f"in {len(info.layers):,} layers",
        "bytes": "each operand of each layer once",
        "memory": "" if info.peak is None else f"at its peak, during {info.layers[info.peak].name}",
        "intensity": "of all layers together",
    }
    tiles = []
    for name, note in notes.items():
        value = info.total.text(name) or "not known"
        said = (
            note
            if other is None
            else f"{other.name}: {other.total.text(name) or 'not known'}{_beside(info, other, name)}"
        )
        tiles.append({"label": MEASURES[name].label, "value": value, "note": said})
    return tiles


def _beside(info: ModelInfo, other: ModelInfo, measure: str) -> str:
    a, b = info.total.value(measure), other.total.value(measure)
    if not a or not b or a == b:
        return ""
    return f", {times(b / a)}" if b > a else f", {percent(b / a)}"
