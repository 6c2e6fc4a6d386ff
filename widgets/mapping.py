"""MappingViewer: a layer's loop nest beside the memory hierarchy, with what each level holds, moves and costs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import traitlets

from codesign_kernel.errors import CodesignError, InvalidInputError
from codesign_kernel.figures import mapping as figures
from codesign_kernel.figures.words import percent
from codesign_kernel.units import quantity
from codesign_widgets.page import Page, script_of, style_of

DATAFLOWS = {"ws": "weights stay in the PEs", "os": "outputs stay in the PEs", "is": "inputs stay in the PEs"}
GOALS = {"latency": "the fastest", "energy": "the least energy", "asked": "as I ask", "none": "nothing"}
#: Costs kept, the ones used last: going through the layers evaluates nothing again.
_KEPT = 16
_LONGEST = 80
_PICO = 1e-12


class MappingViewer(Page):
    """A page with one layer of a network on the memory hierarchy of an accelerator, under one mapping or two.

    The reader chooses the layer, and for each side a dataflow and a mapping: the fastest, that of the least energy, or
    one in words that ``evaluate`` understands, such as ``"k=64 inner=y"``. What the page sends is checked here.

    Args:
        networks: workloads by label, or callables that give one; the first is shown first.
        machines: accelerators by label, dataclasses with a ``dataflow``; the first is shown first.
        evaluate: ``evaluate(workload, machine, mapping=None or {layer: text}, objective="latency" or "energy")`` gives
            the Cost, or raises a CodesignError that says why not; ``codesign_kernel.evaluate`` does.
        layer: the one to begin with; the slowest without.

    Attributes:
        network, machine, layer: what is shown. costs, infos: of the sides ``"a"`` and ``"b"`` that are shown.
        selected: what the reader has chosen: {"side": "a" or "b", "loop": its line}, {"level": name}, or None.
    """

    selected = traitlets.Any(None, allow_none=True).tag(sync=True)

    _esm = script_of("drawing.js", "hierarchy.js", "mapping.js")
    _css = style_of("mapping.css", "ckx-mapping")

    def __init__(
        self,
        networks: Mapping[str, Any],
        machines: Mapping[str, Any],
        evaluate: Callable[..., Any],
        layer: str | None = None,
    ) -> None:
        if not networks or not machines:
            raise InvalidInputError(
                f"a mapping is of at least one network on one machine, but got {len(networks)} and {len(machines)}"
            )
        super().__init__()
        self._networks, self._machines, self._evaluate = dict(networks), dict(machines), evaluate
        self._found: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._fault = ""
        self.costs: dict[str, Any] = {}
        self.infos: dict[str, figures.MappingInfo] = {}
        self.network, self.machine, self.layer = next(iter(self._networks)), next(iter(self._machines)), ""
        self.setup = {
            "networks": list(self._networks),
            "machines": {
                label: {
                    "about": str(machine),
                    "dataflow": machine.dataflow,
                    "dataflows": {flow: words for flow, words in DATAFLOWS.items() if _with_dataflow(machine, flow)},
                    "chooses": figures.chooses(machine),
                }
                for label, machine in self._machines.items()
            },
            "goals": GOALS,
        }
        self.tell(0, {"network": self.network, "machine": self.machine, "layer": layer, **self._usual(self.machine)})

    def _usual(self, machine: str) -> dict[str, Any]:
        """The sides to begin with."""
        flow = self._machines[machine].dataflow
        other = "energy" if figures.chooses(self._machines[machine]) else "none"
        return {side: {"dataflow": flow, "goal": goal, "text": ""} for side, goal in (("a", "latency"), ("b", other))}

    def choose(self, **asked: Any) -> None:
        """Show another ``network``, ``machine`` or ``layer``, or other sides ``a`` and ``b``: {"dataflow": "ws", "os"
        or "is", "goal": "latency", "energy", "asked" or (b) "none", "text": the mapping asked for}.

        What is wrong with them stands in ``answer["error"]``.
        """
        shown = {name: self.answer.get(name) for name in ("a", "b")}
        sides = {name: side["choice"] for name, side in shown.items() if isinstance(side, dict)}
        machine = asked.get("machine", self.machine)
        usual = self._usual(machine) if isinstance(machine, str) and machine in self._machines else {}
        start = usual if machine != self.machine or not sides else {"b": {"goal": "none"}, **sides}
        standing = {"network": self.network, "machine": self.machine, "layer": self.layer, **start}
        self.tell(None, standing | asked)

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._fault = ""
        network = _one_of(asked.get("network"), self._networks, "networks")
        machine = _one_of(asked.get("machine"), self._machines, "machines")
        choices = {side: self._choice(asked.get(side), machine, side) for side in ("a", "b")}
        workload = self._workload(network)
        layer = asked.get("layer")
        if layer is not None and not isinstance(layer, str):
            raise InvalidInputError(f"a layer is a name, but got {str(layer)[:40]!r}")
        if layer not in {each.name for each in workload.layers}:
            layer = None  # another network, or none chosen so far
        costs, infos = {}, {}
        for side, choice in choices.items():
            if choice["goal"] == "none":
                continue
            self._fault = side
            plain = layer is None or choice["goal"] != "asked"
            cost = self._cost(network, workload, machine, choice, None if plain else layer)
            if layer is None:
                # the slowest
                layer = max(cost.layers, key=lambda each: (each.macs > 0, each.latency_cycle)).name
                if choice["goal"] == "asked":
                    cost = self._cost(network, workload, machine, choice, layer)
            costs[side], infos[side] = cost, figures.mapping_info(cost, str(layer))
        self._fault = ""
        self.network, self.machine, self.layer = network, machine, str(layer)
        self.costs, self.infos = costs, infos
        return {
            "network": network,
            "machine": machine,
            "layer": layer,
            "layers": _layers(costs["a"]),
            "finding": figures.comparison(infos["a"], infos["b"]) if "b" in infos else infos["a"].finding,
            "rows": _rows(infos),
            "b": {"choice": choices["b"], "shown": False},
            **{side: {"choice": choices[side], "shown": True, **_drawn(info)} for side, info in infos.items()},
        }

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        """The side whose choice cannot be, ``a`` or ``b``."""
        return self._fault

    @traitlets.validate("selected")
    def _proper(self, proposal: Mapping[str, Any]) -> dict[str, Any] | None:
        """A loop or a level that is shown, or none; a page may say anything."""
        asked = proposal["value"]
        if not isinstance(asked, dict):
            return None
        level, side, loop = asked.get("level"), asked.get("side"), asked.get("loop")
        if isinstance(level, str):
            here = any(box.level == level for info in self.infos.values() for box in info.boxes)
            return {"level": level} if here else None
        if not isinstance(side, str) or side not in self.infos or isinstance(loop, bool) or not isinstance(loop, int):
            return None
        lines = self.infos[side].lines
        return {"side": side, "loop": loop} if 0 <= loop < len(lines) and lines[loop].place != "note" else None

    def _choice(self, asked: Any, machine: str, side: str) -> dict[str, str]:
        """A side's choice, checked."""
        self._fault = side
        given = asked if isinstance(asked, dict) else {}
        goal = _one_of(given.get("goal"), GOALS, "mappings")
        if goal == "none":
            if side == "a":
                raise InvalidInputError("side A shows a mapping always; only B can be nothing")
            return {"goal": "none", "dataflow": self._machines[machine].dataflow, "text": ""}
        dataflow = _one_of(given.get("dataflow"), self.setup["machines"][machine]["dataflows"], "dataflows")
        if goal != "latency" and not figures.chooses(self._machines[machine]):
            raise InvalidInputError("a generated accelerator has one mapping; describe the machine to choose")
        text = given.get("text", "")
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise InvalidInputError(f"a mapping is asked for in at most {_LONGEST} characters, like 'k=64 inner=y'")
        if goal == "asked" and not text.strip():
            raise InvalidInputError("say what the mapping must be, like 'y=14 k=64 c=32 inner=y' or a part of it")
        self._fault = ""
        return {"goal": goal, "dataflow": dataflow, "text": text if goal == "asked" else ""}

    def _cost(self, network: str, workload: Any, machine: str, choice: Mapping[str, str], layer: str | None) -> Any:
        """The cost of the whole network under a side's choice; of those kept if it is one."""
        ask = {layer: choice["text"]} if layer is not None and choice["goal"] == "asked" else None
        objective = "energy" if choice["goal"] == "energy" else "latency"
        key = (network, machine, choice["dataflow"], objective, ask and tuple(*ask.items()))
        if key not in self._found:
            built = replace(self._machines[machine], dataflow=choice["dataflow"])
            self._found[key] = self._evaluate(workload, built, mapping=ask, objective=objective)
        self._found.move_to_end(key)
        while len(self._found) > _KEPT:
            self._found.popitem(last=False)
        return self._found[key]

    def _workload(self, network: str) -> Any:
        workload = self._networks[network]
        if callable(workload):
            workload = self._networks[network] = workload()
        return workload


def _with_dataflow(machine: Any, dataflow: str) -> bool:
    try:
        replace(machine, dataflow=dataflow)
    except CodesignError:
        return False
    return True


def _one_of(value: Any, known: Mapping[str, Any], what: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise InvalidInputError(f"the {what} here are {', '.join(known)}, but got {str(value)[:40]!r}")
    return value


def _layers(cost: Any) -> list[dict[str, Any]]:
    """The layers to choose from, with their share of the time."""
    total = cost.latency_cycle
    return [{"name": each.name, "about": f"{each.op}, {percent(each.latency_cycle / total)}"} for each in cost.layers]


def _drawn(info: figures.MappingInfo) -> dict[str, Any]:
    """What the page draws of ``info``, as plain JSON."""
    depth, lines = 0, []
    for line in info.lines:
        lines.append({**line._asdict(), "depth": depth, "words": figures.line_words(line)})
        depth += line.is_loop
    boxes = [
        {
            "level": box.level,
            "label": box.label,
            "capacity_bit": box.capacity_bit,
            "capacity": quantity(box.capacity_bit / 8, "B") if box.capacity_bit else "",
            "held": [{"operand": each.operand, "share": each.bits / box.capacity_bit} for each in box.held],
            "full": percent(sum(each.bits for each in box.held) / box.capacity_bit) if box.held else "",
            "energy": quantity(box.energy_pj * _PICO, "J"),
            "energy_pj": box.energy_pj,
            "words": figures.box_words(box, info.energy_pj),
        }
        for box in info.boxes
    ]
    return {
        "machine": info.machine,
        "dataflow": info.dataflow,
        "lines": lines,
        "boxes": boxes,
        "flows": [{**flow._asdict(), "text": quantity(flow.bits / 8, "B")} for flow in info.flows],
        "energy_pj": info.energy_pj,
        "tiles": [
            {
                "label": "Cycles",
                "value": f"{info.latency_cycle:,}",
                "note": f"{percent(info.utilization)} of the array",
            },
            {"label": "Energy", "value": quantity(info.energy_pj * _PICO, "J"), "note": "without leakage"},
            {"label": "DRAM", "value": quantity(info.dram_bit / 8, "B"), "note": "read and written"},
        ],
    }


def _rows(infos: Mapping[str, figures.MappingInfo]) -> list[dict[str, Any]]:
    """Traffic and energy by level, operand and direction, for each side; the last row is the total."""
    keys: dict[tuple[str, str, str], None] = {}
    for info in infos.values():
        keys.update(dict.fromkeys((access.level, access.operand, access.direction) for access in info.accesses))
    found: list[dict[str, Any]] = []
    for key in sorted(keys, key=lambda key: (list(figures.LEVELS).index(key[0]), key[1:])):
        sides = {
            side: [
                (access.bits, access.energy_pj)
                for access in info.accesses
                if (access.level, access.operand, access.direction) == key
            ]
            for side, info in infos.items()
        }
        sums = {side: (sum(b for b, _ in each), sum(e for _, e in each)) for side, each in sides.items()}
        found.append(_row(figures.LEVELS[key[0]], figures.OPERAND_WORDS[key[1]], key[2], sums))
    rest = {side: (0, info.energy_pj - sum(a.energy_pj for a in info.accesses)) for side, info in infos.items()}
    total = {side: (sum(a.bits for a in info.accesses), info.energy_pj) for side, info in infos.items()}
    return [*found, _row(figures.LEVELS[figures.BELOW], "MACs, clock, lanes", "", rest), _row("All", "", "", total)]


def _row(level: str, operand: str, direction: str, sums: Mapping[str, tuple[int, float]]) -> dict[str, Any]:
    told = {
        side: {
            "bits": bits,
            "pj": pj,
            "text": quantity(bits / 8, "B") if bits else "",
            "energy": quantity(pj * _PICO, "J"),
        }
        for side, (bits, pj) in sums.items()
    }
    return {"level": level, "operand": operand, "direction": direction, **told}
