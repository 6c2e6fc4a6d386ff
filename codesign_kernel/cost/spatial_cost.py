"""``evaluate`` on a :class:`SpatialArray`: one machine, told layer by layer with the mapping of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from codesign_kernel.accelerator.spatial import SpatialArray, SpatialArrays, ceil_kib
from codesign_kernel.cost.result import Access, Cost, LayerCost
from codesign_kernel.cost.search import Table, stay_of
from codesign_kernel.cost.spatial import (
    REASONS,
    ROWS,
    Group,
    Plan,
    SpatialCost,
    evaluate_spatial,
    least_needs,
)
from codesign_kernel.cost.spatial_silicon import SpatialSilicon, dynamic_energy
from codesign_kernel.cost.tiles import Access as Moved
from codesign_kernel.cost.tiles import _tile, tile_bits, whole_bits
from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.mapping.choice import OPERAND_OF, Constraint, LayerMapping
from codesign_kernel.mapping.nest import LAST, LOOPS, Nest
from codesign_kernel.workload import Workload

Array = np.ndarray[Any, Any]


def constraints_of(mapping: str | Mapping[str, str] | None, plan: Plan) -> dict[str, Constraint]:
    """What ``mapping`` says of each layer of the array.

    Raises:
        InvalidInputError: it is of another kind, names an unknown layer, or is not understood.
    """
    names = [unit.layer.name for unit in plan.units if unit.array]
    if mapping is None:
        return {}
    if isinstance(mapping, str):
        return dict.fromkeys(names, Constraint.parse(mapping))
    if not isinstance(mapping, Mapping) or not all(isinstance(text, str) for text in mapping.values()):
        raise InvalidInputError(
            f"mapping is a text like 'k=64 inner=y', or such a text for each of some layers, but got {mapping!r}"
        )
    unknown = sorted(set(mapping) - set(names))
    if unknown:
        raise InvalidInputError(f"mapping names layers of the array ({', '.join(names)}), but got {', '.join(unknown)}")
    return {name: Constraint.parse(text) for name, text in mapping.items()}


class _Told:
    """What :func:`evaluate_spatial` shows of the only machine."""

    def __call__(self, group: Group, kept: Array, picks: list[Array]) -> None:
        self.group, self.kept, self.picks = group, kept, picks


def evaluate_one(workload: Workload, machine: SpatialArray, mapping: Any, fusion: bool, objective: str) -> Cost:
    """See :func:`codesign_kernel.cost.evaluate`."""
    told = _Told()
    constraints = constraints_of(mapping, Plan.of(workload, fusion))
    machines = SpatialArrays.of([machine])
    cost = evaluate_spatial(
        workload, machines, fusion=fusion, constraints=constraints, objective=objective, on_group=told
    )
    group = told.group
    if cost.reason[0]:
        _explain(cost, group, machine)
    layers: list[LayerCost] = []
    accesses: list[Access] = []
    for at in range(len(cost.plan.units)):
        layer, moved = _layer(group, at, told.kept, told.picks[at], cost.silicon, machine)
        layers.append(layer)
        accesses.extend(moved)
    bands = {b: float(sum(parts[b][0] for parts in cost.energy_parts.values())) for b in ("low", "nominal", "high")}
    area = {b: float(sum(parts[b][0] for parts in cost.silicon.area_um2.values())) for b in bands}
    latency = int(cost.latency_cycle[0])
    return Cost(
        workload=workload.name,
        accelerator=machine,
        macs=cost.plan.macs,
        latency_cycle=latency,
        overhead_cycle=0,
        boot_cycle=0,
        resident=False,
        instructions=0,
        energy_pj=bands["nominal"],
        energy_low_pj=bands["low"],
        energy_high_pj=bands["high"],
        area_um2=area["nominal"],
        area_low_um2=area["low"],
        area_high_um2=area["high"],
        utilization=cost.plan.macs / (latency * machine.pes),
        layers=tuple(layers),
        accesses=tuple(accesses),
        energy_parts={name: float(parts["nominal"][0]) for name, parts in cost.energy_parts.items()},
        area_parts={
            name: float(parts["nominal"][0]) for name, parts in cost.silicon.area_um2.items() if parts["nominal"][0]
        },
        uncosted=cost.plan.uncosted,
    )


def _layer(
    group: Group, at: int, kept: Array, picks: Array, silicon: SpatialSilicon, machine: SpatialArray
) -> tuple[LayerCost, list[Access]]:
    """Unit ``at``: its cycles, energy and mapping, and what it moves."""
    unit, nest = group.plan.units[at], group.plan.nests[at]
    rows, _ = group.unit_rows(at, kept[at], kept[at + 1])
    macs = nest.macs if nest is not None else 0
    lanes = unit.vector_ops + (unit.output_elements if unit.array else 0)
    parts = dynamic_energy(rows, macs, lanes, silicon)
    latency = int(rows[-1, 0])
    chosen = None
    vector = int(group.vector_cycle(at)[0])
    if nest is None:
        compute, store = min(vector, latency), 0
    else:
        before, behind = int(kept[at, 0]), int(kept[at + 1, 0])
        table, _ = group.pick(at, group.kept(at, before, behind))
        pick = int(picks[0])
        store = _bare_store(table, pick)
        # where the vector unit is the slowest, the rest of the time is its
        compute = int(rows[-2, 0]) + max(0, latency - int(table.cycle[pick, 1]))
        chosen = _mapping(nest, table, pick, machine)
    energy = {band: float(sum(bands[band][0] for bands in parts.values())) for band in ("low", "nominal", "high")}
    layer = LayerCost(
        name=unit.layer.name,
        op=unit.layer.op,
        macs=macs,
        load_cycle=latency - compute - store,
        compute_cycle=compute,
        store_cycle=store,
        energy_pj=energy["nominal"],
        energy_low_pj=energy["low"],
        energy_high_pj=energy["high"],
        dram_bit=int(sum(rows[ROWS.index(name), 0] for name in Moved._fields if name.startswith("dram"))),
        utilization=macs / (latency * machine.pes) if latency else 0.0,
        mapping=chosen,
    )
    moved = []
    for number, name in enumerate(Moved._fields):
        if rows[number, 0]:
            level, operand, direction = _place(name, machine)
            pj = float(rows[number, 0] * silicon.access_pj[name][0])
            moved.append(Access(unit.layer.name, level, operand, direction, int(rows[number, 0]), pj))
    return layer, moved


def _mapping(nest: Nest, table: Table, pick: int, machine: SpatialArray) -> LayerMapping:
    """Mapping ``pick`` of ``table`` in words."""
    family, inner = table.families[table.which[pick, 5]], LOOPS[table.which[pick, 3]]
    y, k, c = (int(size) for size in table.sizes[pick])
    stays = zip(LOOPS, stay_of(table.which[pick]), strict=True)
    keeps_input, keeps_output = (bool(flag) for flag in table.kept.flags)
    return LayerMapping(
        nest=nest,
        dataflow=machine.dataflow,
        rows=machine.rows,
        cols=machine.cols,
        y=y,
        k=k,
        c=c,
        inner=inner,
        held="".join(OPERAND_OF[loop] for loop, stay in stays if stay and loop != inner),
        grouped=bool(family.shape.grouped),
        keeps_input=keeps_input,
        keeps_output=keeps_output,
        im2col=machine.im2col,
        needs_bit=_needs_bit(table, pick),
    )


def _needs_bit(table: Table, pick: int) -> tuple[int, int, int]:
    """Bits of W, I and O that lie on chip at once: :attr:`Table.needs` of the mapping, told apart."""
    which = table.which[pick]
    family, stay = table.families[which[5]], stay_of(which)
    y, k, c = family.loops(which)
    tile, whole = tile_bits(y, k, c, family.shape, table.engine), whole_bits(family.shape, table.engine)
    # the operand that the innermost loop leaves alone stays without being held
    w, i, o = (
        all_of if stays and which[3] != place else one
        for place, (stays, all_of, one) in enumerate(zip(stay, whole, tile, strict=True))
    )
    return int(w), int((table.kept.in_bit or i) + table.kept.out_bit), int(o)


def _place(name: str, machine: SpatialArray) -> tuple[str, str, str]:
    """(level, operand, direction) of a field of :class:`tiles.Access`."""
    words = name.split("_")
    if words[0] == "register":
        return "register", {"ws": "W", "os": "O", "is": "I"}[machine.dataflow], words[1]
    level = "shared" if machine.shared_kib and words[0] != "dram" else words[0]
    return level, words[1].upper(), words[2]


def _bare_store(table: Table, pick: int) -> int:
    """Cycles in which results leave and nothing else happens: the last tile's, and every tile's of single buffers."""
    family, stay = table.families[table.which[pick, 5]], stay_of(table.which[pick])
    y, k, c = family.loops(table.which[pick])

    def store(at_y: int, at_k: int, at_c: int, after: tuple[Any, Any, Any], last_c: Any) -> float:
        tile = _tile(
            y.extent[at_y], y.seen[at_y], k.extent[at_k], c.extent[at_c], after, last_c, stay, family.shape,
            table.engine, *table.kept.flags,
        )  # fmt: skip
        return float(tile[2])

    if table.engine.double_buffered:
        return int(store(-1, -1, -1, (y.tiles > 1, k.tiles > 1, c.tiles > 1), True))
    total = sum(
        y.count[a] * k.count[b] * c.count[d] * store(a, b, d, (a > 0, b > 0, d > 0), d == LAST or c.tiles == 1)
        for a in range(len(y.count))
        for b in range(3)
        for d in range(3)
    )
    return int(total * (1 if family.shape.grouped else family.shape.groups))


def _explain(cost: SpatialCost, group: Group, machine: SpatialArray) -> NoReturn:
    """Raise what the first layer without a mapping needs of the buffer that is too small."""
    plan = cost.plan
    at = next(at for at, nest in enumerate(plan.nests) if nest is not None and np.isinf(group.costs(at)[0, 0, 0, 0]))
    unit = plan.units[at]
    needs, sizes = least_needs(group, at), group.capacity[0]
    buffers = ("shared",) if group.shared else ("weight", "input", "output")
    lacking = [(name, need, size) for name, need, size in zip(buffers, needs, sizes, strict=False) if need > size]
    constrained = " that mapping= allows" if unit.layer.name in group.constraints else ""
    where = f"the smallest tile of layer {unit.layer.name!r}{constrained}"
    if not lacking:
        least = ", ".join(f"{name} {ceil_kib(need)}" for name, need in zip(buffers, needs, strict=False))
        raise InfeasibleDesignError(
            f"the buffers hold one tile of layer {unit.layer.name!r} together, but no tiling (or none that mapping= "
            f"allows) fits all three; alone it needs at least {least} KiB: enlarge one of them or loosen mapping="
        )
    words = "; ".join(
        f"it needs {ceil_kib(need)} KiB and {name}_kib = {getattr(machine, f'{name}_kib'):g} is "
        f"{ceil_kib(need - size)} KiB too small"
        for name, need, size in lacking
    )
    raise InfeasibleDesignError(
        f"a buffer holds {where}, but {words}; make it at least that large ({REASONS[cost.reason[0]]})"
    )
