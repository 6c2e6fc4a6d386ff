"""DesignExplorer: move an accelerator's parameters and see at once what it costs and where it stands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

import anywidget
import ipywidgets
import traitlets

from codesign_kernel.errors import CodesignError, InfeasibleDesignError, InvalidInputError
from codesign_kernel.figures import front as fronts
from codesign_kernel.figures import layers, pareto, roofline, theme
from codesign_kernel.figures.words import band, percent
from codesign_kernel.units import quantity
from codesign_widgets.controls import CONTROLS, Control, check
from codesign_widgets.plotly_bundle import PlotlyBundle

_LOG = logging.getLogger(__name__)
#: Dominated designs drawn: fewer than in a report, because the picture moves.
_CLOUD = 1000
_PICO = 1e-12
#: What an evaluation that fails for no lawful reason raises; shown in words, logged in full.
_FAULTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def _text(name: str) -> str:
    return resources.files("codesign_widgets").joinpath(name).read_text(encoding="utf-8")


class DesignExplorer(anywidget.AnyWidget):
    """A page of controls, key figures, the front and the roofline of one network on one accelerator.

    What the page sends (``query``) is checked here, in the kernel: whatever it holds, the answer is a result or a
    message.

    Args:
        networks: workloads by label, or callables that give one; the first is shown first.
        evaluate: ``evaluate(workload, parameters)`` gives the Cost, or raises a CodesignError that says why not.
        sweep: ``sweep(workload)`` gives the frame of a design space, at once (well under a second).
        front: ``front(frame)`` gives its non-dominated rows for ``objectives``.
        knee: ``knee(front)`` gives the row to mark; nothing is marked without it.
        controls: the parameters to choose, with their defaults.
        objectives: two or three result columns of the frame.

    Attributes:
        network, parameters: what is shown. cost: its Cost, None while the design cannot run the network.
    """

    query = traitlets.Any().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)
    front_figure = traitlets.Dict().tag(sync=True)
    setup = traitlets.Dict().tag(sync=True)
    bundle = traitlets.Instance(PlotlyBundle).tag(sync=True, **ipywidgets.widget_serialization)

    _esm = "let Plotly;\n" + theme.script() + _text("explorer.js")
    _css = theme.static("figure.css") + _text("explorer.css")

    def __init__(
        self,
        networks: Mapping[str, Any],
        evaluate: Callable[[Any, dict[str, float]], Any],
        sweep: Callable[[Any], Any],
        front: Callable[[Any], Any],
        knee: Callable[[Any], Any] | None = None,
        controls: Sequence[Control] = CONTROLS,
        objectives: Sequence[str] = ("latency_ms", "energy_uj", "area_mm2"),
    ) -> None:
        if not networks:
            raise InvalidInputError("an explorer shows at least one network, but got none")
        if not 2 <= len(objectives) <= 3:
            raise InvalidInputError(f"a front is shown for two or three objectives, but got {list(objectives)}")
        super().__init__(bundle=PlotlyBundle.shared())
        self._networks = dict(networks)
        self._evaluate, self._sweep, self._front, self._knee = evaluate, sweep, front, knee
        self._controls = {control.name: control for control in controls}
        self._objectives = tuple(objectives)
        self._fronts: dict[str, tuple[fronts.ParetoInfo, Any, dict[str, Any]]] = {}
        self.cost: Any = None
        self.network = next(iter(self._networks))
        self.parameters = {control.name: control.default for control in controls}
        self.setup = {"networks": list(self._networks), "controls": [control._asdict() for control in controls]}
        self._show(0, self.network, dict(self.parameters))
        self.observe(self._asked, "query")

    def choose(self, network: str | None = None, **parameters: float) -> None:
        """Show ``network`` with these parameters changed; what is wrong with them stands in ``answer["error"]``."""
        self._show(int(self.answer.get("seq", 0)), network or self.network, {**self.parameters, **parameters})

    def _asked(self, change: Mapping[str, Any]) -> None:
        query = change["new"]
        asked = query if isinstance(query, dict) else {}
        seq = asked.get("seq")
        self._show(seq if isinstance(seq, int) else 0, asked.get("network"), asked.get("parameters"))

    def _show(self, seq: int, network: Any, parameters: Any) -> None:
        """Answer one question; a question that makes no sense is answered with a message."""
        changed: list[str] = []
        try:
            if not isinstance(network, str) or network not in self._networks:
                raise InvalidInputError(
                    f"the networks here are {', '.join(self._networks)}, but got {str(network)[:40]!r}"
                )
            wanted = check(self._controls.values(), parameters)
            changed = [name for name, value in wanted.items() if value != self.parameters.get(name)]
            workload = self._workload(network)
            info, front, figure = self._swept(network, workload)
            moved = network != self.network
            self.network, self.parameters, self.cost = network, wanted, None
            if self.front_figure.get("network") != network:
                self.front_figure = figure
            wanted, cost, note = self._costed(workload, wanted, figure["knee"] if moved else None)
            self.parameters = wanted
        except CodesignError as error:
            self._refuse(seq, str(error), changed)
        except _FAULTS as error:
            _LOG.exception("evaluation failed")
            self._refuse(
                seq, f"the evaluation failed ({type(error).__name__}); the kernel's log has the details", changed
            )
        else:
            self.cost = cost
            self.answer = {
                "seq": seq,
                "network": network,
                "parameters": wanted,
                "error": None,
                "note": note,
                **self._result(cost, wanted, info, front),
            }

    def _costed(
        self, workload: Any, wanted: dict[str, float], knee: Mapping[str, float] | None
    ) -> tuple[dict[str, float], Any, str]:
        """Parameters, their cost, and a note: where the old design cannot run a new network, the knee stands in."""
        try:
            return wanted, self._evaluate(workload, dict(wanted)), ""
        except InfeasibleDesignError as error:
            if knee is None:
                raise
            wanted = {**wanted, **knee}
            return (
                wanted,
                self._evaluate(workload, dict(wanted)),
                f"The design before cannot run this network, so this is the knee of its front. {_sentence(error)}",
            )

    def _refuse(self, seq: int, message: str, changed: Sequence[str]) -> None:
        """Say what is wrong, beside the control that is named in the message or was moved last."""
        named = [name for name in self._controls if name in message]
        blamed = next((name for name in changed if name in named), (named or list(changed) or [""])[0])
        error = {"control": blamed, "text": _sentence(message)}
        self.answer = {
            **self.answer,
            "seq": seq,
            "network": self.network,
            "parameters": dict(self.parameters),
            "error": error,
        }

    def _workload(self, network: str) -> Any:
        workload = self._networks[network]
        if callable(workload):
            workload = self._networks[network] = workload()
        return workload

    def _swept(self, network: str, workload: Any) -> tuple[fronts.ParetoInfo, Any, dict[str, Any]]:
        """Front of a network, swept once: what to draw, its rows, and the figure with the designs to pick from."""
        if network not in self._fronts:
            frame = self._sweep(workload)
            front = self._front(frame)
            knee = None if self._knee is None else self._knee(front)
            x, y, third = (*self._objectives, None)[:3]
            info = fronts.pareto_info(frame, front, str(x), str(y), third, knee=knee, cloud=_CLOUD)
            names = [name for name in self._controls if name in front.columns]
            # a click on a point takes its design: the parameters of every point drawn, by the trace's name
            picks = {
                trace: {name: frame.loc[[p.key for p in points], name].astype(float).tolist() for name in names}
                for trace, points in (("front", info.front), ("others", info.cloud))
            }
            best = None if knee is None else {name: float(knee[name]) for name in names}
            spec = theme.page_spec(pareto.pareto_figure(info), "pareto")
            self._fronts[network] = info, front, {"network": network, "spec": spec, "picks": picks, "knee": best}
        return self._fronts[network]

    def _result(
        self, cost: Any, parameters: Mapping[str, float], info: fronts.ParetoInfo, front: Any
    ) -> dict[str, Any]:
        row = {
            **parameters,
            "latency_ms": cost.latency_s * 1e3,
            "latency_cycle": cost.latency_cycle,
            "energy_uj": cost.energy_pj * 1e-6,
            "area_mm2": cost.area_um2 * 1e-6,
            "utilization": cost.utilization,
            "power_mw": cost.energy_pj * 1e-9 / cost.latency_s,
        }
        ours = front[list(self._objectives)]
        mine = [row[name] for name in self._objectives]
        beaten = int(((ours <= mine).all(axis=1) & (ours < mine).any(axis=1)).sum())
        return {
            "tiles": _tiles(cost, beaten),
            "marks": pareto.moving_parts(fronts.with_chosen(info, row)),
            "roofline": theme.page_spec(roofline.plot_roofline(cost, cost.accelerator), "roofline"),
            "layers": theme.page_spec(layers.plot_layers(cost), "layers"),
        }


def _sentence(message: object) -> str:
    text = str(message)
    return f"{text[:1].upper()}{text[1:]}."


def _tiles(cost: Any, beaten: int) -> list[dict[str, str]]:
    energy, area = cost.energy_pj * _PICO, cost.area_um2 * _PICO
    standing = (
        ("On the front", "no design swept beats it")
        if not beaten
        else ("Beaten", f"by {beaten:,} on the front, in all objectives")
    )
    return [
        {"label": "Latency", "value": quantity(cost.latency_s, "s"), "note": f"{cost.latency_cycle:,} cycles"},
        {
            "label": "Energy",
            "value": quantity(energy, "J"),
            "note": band(cost.energy_low_pj * _PICO, cost.energy_high_pj * _PICO, "J"),
        },
        {
            "label": "Area",
            "value": quantity(area, "m²"),
            "note": band(cost.area_low_um2 * _PICO, cost.area_high_um2 * _PICO, "m²"),
        },
        {
            "label": "Utilisation",
            "value": percent(cost.utilization),
            "note": f"of {quantity(cost.accelerator.peak_macs_per_s, 'MAC/s')}",
        },
        {"label": "Standing", "value": standing[0], "note": standing[1], "state": "" if beaten else "good"},
    ]
