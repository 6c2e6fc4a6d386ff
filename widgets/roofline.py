"""Roofline: the layers of a network under the roofs of an accelerator, which move with its parameters at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import traitlets

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import roofs
from codesign_kernel.figures.roofline import left_out
from codesign_kernel.units import quantity
from codesign_widgets.controls import Control, check
from codesign_widgets.page import Page, script_of, style_of

#: Not of the machine: the cost model gives each memory on the chip a word a cycle.
WORDS = Control(
    "onchip_words",
    "On-chip bandwidth",
    "×",
    tuple(2.0**i for i in range(-3, 4)),
    1.0,
    "Words that each on-chip memory delivers, and takes, in a cycle. The array needs one.",
)
#: Field of a machine -> label, unit, what it is, and whether it is a whole number.
FIELDS: dict[str, tuple[str, str, str, bool]] = {
    "rows": ("Rows", "PE", "Processing elements along one side of the array.", True),
    "cols": ("Columns", "PE", "Processing elements along the other side of the array.", True),
    "frequency_mhz": ("Clock", "MHz", "Clock frequency of the whole accelerator.", False),
    "bandwidth_gb_s": ("External bandwidth", "GB/s", "What the external memory delivers.", False),
}
#: A slider goes from a sixteenth of what the machine has to sixteen times as much.
_DOUBLINGS = range(-4, 5)


def controls_of(machine: Any) -> tuple[Control, ...]:
    """The sliders for ``machine``: what it has, and halves and doubles of that as far as it is lawful."""
    found = []
    for name, (label, unit, help_text, whole) in FIELDS.items():
        own = getattr(machine, name)
        values = [own * 2.0**i for i in _DOUBLINGS]
        lawful = tuple(v for v in values if (not whole or v == int(v)) and _is_lawful(machine, name, v, whole))
        found.append(Control(name, label, unit, lawful, own, help_text, whole))
    return (*found, WORDS)


def _is_lawful(machine: Any, name: str, value: float, whole: bool) -> bool:
    try:
        replace(machine, **{name: int(value) if whole else value})
    except InvalidInputError:
        return False
    return True


class Roofline(Page):
    """A page with a network's layers under the roofs of an accelerator: the array's and each memory's.

    What a slider moves is drawn by the page from plain numbers, so that it moves at once; ``evaluate`` then says what
    the layers attain on that machine. What the page sends is checked here.

    Args:
        networks: workloads by label, or callables that give one; the first is shown first.
        machines: accelerators by label, dataclasses with ``rows``, ``cols``, ``frequency_mhz`` and ``bandwidth_gb_s``,
            such as ``codesign_kernel.accelerator.catalog`` gives; the first is shown first.
        evaluate: ``evaluate(workload, machine)`` gives the Cost, or raises a CodesignError that says why not.

    Attributes:
        network, machine, parameters: what is shown, which is the last that could be evaluated. cost: its Cost. info:
            its :class:`codesign_kernel.figures.roofs.RoofsInfo`. Both are None before anything could.
        selected: name of the layer that the reader has chosen; "" is none.
    """

    selected = traitlets.Any("").tag(sync=True)
    info: roofs.RoofsInfo | None = None

    _esm = script_of("drawing.js", "controls.js", "roofs.js", "roofline.js")
    _css = style_of("roofline.css", "ckx-roofline")

    def __init__(
        self, networks: Mapping[str, Any], machines: Mapping[str, Any], evaluate: Callable[[Any, Any], Any]
    ) -> None:
        if not networks or not machines:
            raise InvalidInputError(
                f"a roofline shows at least one network on one machine, but got {len(networks)} and {len(machines)}"
            )
        super().__init__()
        self._networks, self._machines, self._evaluate = dict(networks), dict(machines), evaluate
        self._controls = {label: controls_of(machine) for label, machine in self._machines.items()}
        self._changed: list[str] = []
        self.cost: Any = None
        self.network, self.machine = next(iter(self._networks)), next(iter(self._machines))
        self.parameters = self.defaults(self.machine)
        self.setup = {
            "networks": list(self._networks),
            "machines": {
                label: {
                    "about": str(machine),
                    "terms": roofs.roof_terms(machine),
                    "controls": [control._asdict() for control in self._controls[label]],
                }
                for label, machine in self._machines.items()
            },
            "near": roofs.NEAR,
            "external": {"level": roofs.EXTERNAL, "label": roofs.LABELS[roofs.EXTERNAL]},
        }
        self.tell(0, {"network": self.network, "machine": self.machine, "parameters": dict(self.parameters)})

    def add(self, label: str, network: Any, keep: int = 4) -> None:
        """Show another network first (a workload, or what has one); of the others the ``keep - 1`` that came last stay.

        What cannot be evaluated on this machine stands in ``answer["error"]``.
        """
        others = [(name, known) for name, known in self._networks.items() if name != label]
        self._networks = {label: getattr(network, "workload", network), **dict(others[: keep - 1])}
        with self.hold_sync():
            self.setup = {**self.setup, "networks": list(self._networks)}
            self.choose(network=label)

    def defaults(self, machine: str) -> dict[str, float]:
        """The parameters that the machine called ``machine`` has."""
        return {control.name: control.default for control in self._controls[machine]}

    def choose(self, network: str | None = None, machine: str | None = None, **parameters: float) -> None:
        """Show ``network`` on ``machine`` with these parameters; what is wrong with them stands in ``answer["error"]``.

        Parameters that are not given stay, but for those of another machine, which are its own.
        """
        known = machine is None or machine == self.machine or machine not in self._machines
        start = self.parameters if known else self.defaults(str(machine))
        asked = {
            "network": network or self.network,
            "machine": machine or self.machine,
            "parameters": {**start, **parameters},
        }
        self.tell(None, asked)

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        network, machine = asked.get("network"), asked.get("machine")
        self._changed = []
        if not isinstance(network, str) or network not in self._networks:
            raise InvalidInputError(f"the networks here are {', '.join(self._networks)}, but got {str(network)[:40]!r}")
        if not isinstance(machine, str) or machine not in self._machines:
            raise InvalidInputError(f"the machines here are {', '.join(self._machines)}, but got {str(machine)[:40]!r}")
        wanted = check(self._controls[machine], asked.get("parameters"))
        self._changed = [name for name, value in wanted.items() if value != self.parameters.get(name)]
        changed = {name: value for name, value in wanted.items() if name in FIELDS}
        built = replace(self._machines[machine], **changed)
        cost = self._evaluate(self._workload(network), built)
        info = roofs.roofs_info(cost, built, wanted[WORDS.name])
        self.network, self.machine, self.parameters = network, machine, wanted
        self.cost, self.info = cost, info
        return {"network": network, "machine": machine, "parameters": wanted, **_drawn(cost, info)}

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        """The control that is named in the message, or was moved last."""
        known = (*FIELDS, WORDS.name)
        named = [name for name in known if name in message]
        if len(named) == len(known):
            return ""
        return next((name for name in self._changed if name in named), (named or self._changed or [""])[0])

    def _refusal(self, seq: int, message: str, asked: dict[str, Any]) -> dict[str, Any]:
        standing = {"network": self.network, "machine": self.machine, "parameters": dict(self.parameters)}
        return {**super()._refusal(seq, message, asked), **standing}

    @traitlets.validate("selected")
    def _proper(self, proposal: Mapping[str, Any]) -> str:
        """A layer that is shown, or none; a page may say anything."""
        name = proposal["value"]
        known = self.info is not None and isinstance(name, str) and name in {point.name for point in self.info.points}
        return name if known else ""

    def _workload(self, network: str) -> Any:
        workload = self._networks[network]
        if callable(workload):
            workload = self._networks[network] = workload()
        return workload


def _drawn(cost: Any, info: roofs.RoofsInfo) -> dict[str, Any]:
    """What the page draws of ``info``, as plain JSON."""
    return {
        "finding": info.finding,
        "left_out": left_out(info.without_macs) if info.without_macs else "",
        "latency": quantity(cost.latency_s, "s"),
        "cycles": f"{cost.latency_cycle:,} cycles",
        "layers": [
            {
                "name": point.name,
                "macs": point.macs,
                "rate": point.rate,
                "share": point.share,
                "intensities": dict(point.intensities),
            }
            for point in info.points
        ],
    }
