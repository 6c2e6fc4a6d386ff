"""Playground: move an accelerator's parameters and see at once what it costs and where it stands."""

from __future__ import annotations

import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import traitlets

from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.figures import front as fronts
from codesign_kernel.figures import layers, pareto, roofline, theme
from codesign_kernel.figures.words import band, percent
from codesign_kernel.units import quantity
from codesign_widgets.controls import CONDITIONS, CONTROLS, Control, check
from codesign_widgets.page import Page, script_of, sentence, style_of

#: Dominated designs drawn: fewer than in a report, because the picture moves.
_CLOUD = 500
#: Fronts kept, the ones used last: what a slider passes to and fro is swept once.
_KEPT = 32
_PICO = 1e-12


class _Front(NamedTuple):
    """A front under its conditions: what to draw, its rows, and the figure with the designs to pick from."""

    info: fronts.ParetoInfo
    rows: Any
    figure: dict[str, Any]


class Playground(Page):
    """A page of controls, key figures, the front and the roofline of one network on one accelerator.

    Some parameters are conditions, which the surroundings give: the front is that of all designs under them, and moves
    when they do. The others are the designer's choice: they move the chosen design.

    What the page sends (``query``) is checked here, in the kernel: whatever it holds, the answer is a result or a
    message.

    Args:
        networks: workloads by label, or callables that give one; the first is shown first.
        evaluate: ``evaluate(workload, parameters)`` gives the Cost, or raises a CodesignError that says why not.
        sweep: ``sweep(workload, conditions)`` gives the frame of all designs under these values of the conditions, at
            once (well under a second). Its index names the designs: it is the same under all conditions.
        front: ``front(frame)`` gives its non-dominated rows for ``objectives``.
        knee: ``knee(front)`` gives the row to mark; nothing is marked without it.
        controls: the parameters to choose, with their defaults.
        conditions: names of those that the surroundings give; without any the front stays.
        objectives: two or three result columns of the frame.

    Attributes:
        network, parameters: what is shown. cost: its Cost, None while the design cannot run the network.
    """

    front_figure = traitlets.Dict().tag(sync=True, kernel=True)

    _esm = script_of("controls.js", "playground.js")
    _css = style_of()

    def __init__(
        self,
        networks: Mapping[str, Any],
        evaluate: Callable[[Any, dict[str, float]], Any],
        sweep: Callable[[Any, dict[str, float]], Any],
        front: Callable[[Any], Any],
        knee: Callable[[Any], Any] | None = None,
        controls: Sequence[Control] = CONTROLS,
        conditions: Sequence[str] = CONDITIONS,
        objectives: Sequence[str] = ("latency_ms", "energy_uj", "area_mm2"),
    ) -> None:
        if not networks:
            raise InvalidInputError("a playground shows at least one network, but got none")
        if not 2 <= len(objectives) <= 3:
            raise InvalidInputError(f"a front is shown for two or three objectives, but got {list(objectives)}")
        unknown = [name for name in conditions if name not in {control.name for control in controls}]
        if unknown:
            raise InvalidInputError(f"conditions are among the controls, but got {', '.join(unknown)}")
        super().__init__()
        self._networks = dict(networks)
        self._evaluate, self._sweep, self._front, self._knee = evaluate, sweep, front, knee
        self._controls = {control.name: control for control in controls}
        self._conditions, self._objectives = tuple(conditions), tuple(objectives)
        self._fronts: OrderedDict[tuple[Any, ...], _Front] = OrderedDict()
        self._reaches: dict[str, dict[str, fronts.Reach]] = {}
        self.cost: Any = None
        self.network = next(iter(self._networks))
        self.parameters = {control.name: control.default for control in controls}
        self.setup = {
            "networks": list(self._networks),
            "controls": [control._asdict() for control in controls],
            "conditions": list(self._conditions),
        }
        self._changed: list[str] = []
        self.tell(0, {"network": self.network, "parameters": dict(self.parameters), "details": True})

    def choose(self, network: str | None = None, **parameters: float) -> None:
        """Show ``network`` with these parameters changed; what is wrong with them stands in ``answer["error"]``."""
        wanted = {**self.parameters, **parameters}
        asked = {"network": network or self.network, "parameters": wanted, "details": True}
        self.tell(None, asked)

    def tell(self, seq: int | None, asked: dict[str, Any]) -> None:
        with self.hold_sync():  # figure and answer in one message, so that the page draws once
            super().tell(seq, asked)

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        network = asked.get("network")
        self._changed = []
        if not isinstance(network, str) or network not in self._networks:
            raise InvalidInputError(f"the networks here are {', '.join(self._networks)}, but got {str(network)[:40]!r}")
        wanted = check(self._controls.values(), asked.get("parameters"))
        self._changed = [name for name, value in wanted.items() if value != self.parameters.get(name)]
        workload = self._workload(network)
        front = self._fronted(network, workload, {name: wanted[name] for name in self._conditions})
        moved = network != self.network
        self.network, self.parameters, self.cost = network, wanted, None
        wanted, cost, note = self._costed(workload, wanted, front.figure["knee"] if moved else None)
        self.parameters = wanted
        result = self._result(cost, wanted, front, asked.get("details") is True)
        self.cost, self.front_figure = cost, front.figure
        return {"network": network, "parameters": wanted, "note": note, **result}

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        """The control that is named in the message, or was moved last."""
        named = [name for name in self._controls if name in message]
        return next((name for name in self._changed if name in named), (named or self._changed or [""])[0])

    def _refusal(self, seq: int, message: str, asked: dict[str, Any]) -> dict[str, Any]:
        standing = {"network": self.network, "parameters": dict(self.parameters)}
        return {**super()._refusal(seq, message, asked), **standing}

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
                f"The design before cannot run this network, so this is the knee of its front. {sentence(error)}",
            )

    def _workload(self, network: str) -> Any:
        workload = self._networks[network]
        if callable(workload):
            workload = self._networks[network] = workload()
        return workload

    def _fronted(self, network: str, workload: Any, conditions: Mapping[str, float]) -> _Front:
        """The front of all designs under ``conditions``, swept again unless it is one of those kept."""
        key = (network, *conditions.values())
        if key not in self._fronts:
            try:
                frame, rows = self._swept(workload, conditions)
            except InfeasibleDesignError as error:
                raise InfeasibleDesignError(
                    f"no design here runs {network} at {self._told(conditions)}; choose other conditions"
                ) from error
            if network not in self._reaches:
                self._reaches[network] = self._reach(workload, frame, rows)
            self._fronts[key] = self._drawn(network, conditions, frame, rows)
        self._fronts.move_to_end(key)
        while len(self._fronts) > _KEPT:
            self._fronts.popitem(last=False)
        return self._fronts[key]

    def _told(self, conditions: Mapping[str, float]) -> str:
        given = [(self._controls[name], value) for name, value in conditions.items()]
        return " and ".join(f"{control.label.lower()} {value:g} {control.unit}" for control, value in given)

    def _swept(self, workload: Any, conditions: Mapping[str, float]) -> tuple[Any, Any]:
        frame = self._sweep(workload, dict(conditions))
        return frame, self._front(frame)

    def _reach(self, workload: Any, frame: Any, rows: Any) -> dict[str, fronts.Reach]:
        """What the objectives span from the least to the most of each condition: the axes stand, the front moves."""
        sweeps = [(frame, rows)]
        ends = [(self._controls[name].values[0], self._controls[name].values[-1]) for name in self._conditions]
        for values in itertools.product(*ends):
            # no design runs at this end: it has nothing to show
            with contextlib.suppress(InfeasibleDesignError):
                sweeps.append(self._swept(workload, dict(zip(self._conditions, values, strict=True))))
        return fronts.reach_of(sweeps, self._objectives)

    def _drawn(self, network: str, conditions: Mapping[str, float], frame: Any, rows: Any) -> _Front:
        knee = None if self._knee is None else self._knee(rows)
        x, y, third = (*self._objectives, None)[:3]
        info = fronts.pareto_info(
            frame,
            rows,
            str(x),
            str(y),
            third,
            knee=knee,
            cloud=_CLOUD,
            reach=self._reaches[network],
            given=self._told(conditions),
        )
        names = [name for name in self._controls if name in rows.columns]
        # a click on a point takes its design: the parameters of every point drawn, by the trace's name
        picks = {
            trace: {name: frame.loc[[p.key for p in points], name].astype(float).tolist() for name in names}
            for trace, points in (("front", info.front), ("others", info.cloud))
        }
        best = None if knee is None else {name: float(knee[name]) for name in names}
        spec = theme.page_spec(pareto.pareto_figure(info), "pareto")
        about = {"network": network, "conditions": dict(conditions)}
        return _Front(info, rows, {**about, "spec": spec, "picks": picks, "knee": best})

    def _result(self, cost: Any, parameters: Mapping[str, float], front: _Front, details: bool) -> dict[str, Any]:
        row = {
            **parameters,
            "latency_ms": cost.latency_s * 1e3,
            "latency_cycle": cost.latency_cycle,
            "energy_uj": cost.energy_pj * 1e-6,
            "area_mm2": cost.area_um2 * 1e-6,
            "utilization": cost.utilization,
            "power_mw": cost.energy_pj * 1e-9 / cost.latency_s,
        }
        ours = front.rows[list(self._objectives)]
        mine = [row[name] for name in self._objectives]
        beaten = int(((ours <= mine).all(axis=1) & (ours < mine).any(axis=1)).sum())
        return {
            "tiles": _tiles(cost, beaten),
            "marks": pareto.moving_parts(fronts.with_chosen(front.info, row)),
            "roofline": theme.page_spec(roofline.plot_roofline(cost, cost.accelerator), "roofline"),
            "layers": theme.page_spec(layers.plot_layers(cost), "layers") if details else None,
        }


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
