"""A workload on many spatial arrays: the best mapping of every layer on each, and what that costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any

import numpy as np

from codesign_kernel.accelerator.spatial import SpatialArrays
from codesign_kernel.cost.fusion import keep_maps
from codesign_kernel.cost.search import Kept, Table, engines_of, mappings
from codesign_kernel.cost.spatial_silicon import SpatialSilicon, dynamic_energy, spatial_silicon
from codesign_kernel.cost.tiles import Access, Engine
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.mapping.choice import Constraint
from codesign_kernel.mapping.nest import Nest, nest_of
from codesign_kernel.mapping.units import Unit, units_of
from codesign_kernel.workload import Workload

Array = np.ndarray[Any, Any]
OBJECTIVES = ("latency", "energy")
#: Machines of one engine that are evaluated together.
CHUNK = 32768
#: Rows of what a layer moves and does: the fields of :class:`Access`, then cycles of the array and of the whole layer.
ROWS = (*Access._fields, "array_cycle", "latency_cycle")
REASONS = (
    "", "weight buffer too small", "input buffer too small", "output buffer too small", "shared buffer too small",
    "buffers too small together",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A workload made ready: its units in order with their loops, and which maps could stay on chip."""

    units: tuple[Unit, ...]
    nests: tuple[Nest | None, ...]
    links: tuple[bool, ...]
    uncosted: Mapping[str, int]

    @classmethod
    def of(cls, workload: Workload, fusion: bool) -> Plan:
        """``fusion``: maps may stay on chip.

        Raises:
            InvalidInputError: nothing in the workload does MACs.
        """
        units, uncosted = units_of(workload)
        if not any(unit.array for unit in units):
            raise InvalidInputError(
                f"a workload has at least one operator that does MACs, but {workload.name!r} has none"
            )
        nests = tuple(nest_of(unit.layer) if unit.array else None for unit in units)
        links = [fusion and a.to_next and b.from_previous for a, b in pairwise(units)]
        return cls(units, nests, tuple(links), uncosted)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(nest.macs for nest in self.nests if nest is not None)


@dataclass
class Group:
    """Some machines of one engine, while a plan is mapped onto them.

    ``silicon`` is there where energy is minimised. ``tables`` and ``picks`` remember what equal layers have found.
    """

    plan: Plan
    engine: Engine
    machines: SpatialArrays
    members: Array
    constraints: Mapping[str, Constraint]
    silicon: SpatialSilicon | None = None
    tables: dict[Any, Table] = field(default_factory=dict)
    picks: dict[Any, Array] = field(default_factory=dict)

    @cached_property
    def capacity(self) -> Array:
        """[members, 3]: weight, input and output buffer, or the shared one, 0 and 0 (bit)."""
        bits = {name: values[self.members].astype(float) for name, values in self.machines.capacity_bit.items()}
        if self.shared:
            return np.stack([bits["shared"], 0 * bits["shared"], 0 * bits["shared"]], axis=1)
        return np.stack([bits["weight"], bits["input"], bits["output"]], axis=1)

    @cached_property
    def shared(self) -> bool:
        """Whether one buffer holds all."""
        return bool(self.machines.capacity_bit["shared"][self.members[0]] > 0)

    def kept(self, at: int, before: int, behind: int) -> Kept:
        """The maps that unit ``at`` keeps."""
        unit, nest = self.plan.units[at], self.plan.nests[at]
        inputs = unit.input_elements if nest is None else nest.inputs
        bits = self.engine.input_bits, self.engine.output_bits
        return Kept(before * inputs * bits[0], behind * unit.output_elements * bits[1])

    def key(self, at: int, kept: Kept) -> Any:
        """Units with one key are mapped alike."""
        unit = self.plan.units[at]
        waits = unit.vector_ops if self.silicon is not None else 0
        return self.plan.nests[at], kept, self.constraints.get(unit.layer.name), waits

    def table(self, at: int, kept: Kept, room: Array | None = None) -> Table:
        """The mappings of unit ``at`` that fit (``room``: these buffers, in place of the members'), as far as its
        constraint allows."""
        nest, constraint = self.plan.nests[at], self.constraints.get(self.plan.units[at].layer.name)
        assert nest is not None
        if constraint is not None:
            # with what no machine has room for, so that the largest legal tile is one and the same for all
            found = mappings(nest, self.engine, unlimited(self.shared), self.shared, kept, every=True)
            found = found.only(constraint.keeps(found.channel_sizes, found.which[:, 3], found.tiles))
        else:
            every = self.silicon is not None or room is not None
            found = mappings(nest, self.engine, self.capacity if room is None else room, self.shared, kept, every=every)
        if self.silicon is not None and len(found):
            rows = self.rows(found, np.arange(len(found)))
            rows[-1] = np.maximum(rows[-1], self.vector_cycle(at))  # leakage lasts as long as the slower one
            found = found.with_costs(np.stack([self.energy(rows, self.silicon), rows[-1]], axis=1))
        return found

    @staticmethod
    def energy(rows: Array, silicon: SpatialSilicon) -> Array:
        """Energy of ``rows`` but for what no mapping changes (pJ)."""
        parts = dynamic_energy(rows, 0, 0, silicon, leakage=True)
        total: Array = reduce(np.add, (bands["nominal"] for bands in parts.values()))
        return total

    def rows(self, table: Table, chosen: Array) -> Array:
        """[len(ROWS), chosen] of the mappings ``chosen``."""
        words = int(self.machines.register_words[self.members[0]])
        return np.concatenate([table.accesses(chosen, words), table.cycle[chosen].T])

    def pick(self, at: int, kept: Kept) -> tuple[Table, Array]:
        """(table, the best mapping of each member; -1 for none)."""
        key = self.key(at, kept)
        if key not in self.tables:
            self.tables[key] = self.table(at, kept)
            self.picks[key] = self.tables[key].best(self.capacity)
        return self.tables[key], self.picks[key]

    def vector(self, at: int, kept: Kept) -> tuple[Array, Array, Array]:
        """(rows without latency [len(ROWS) - 1], cycles [members], which members can [members]) of a vector unit."""
        unit, e = self.plan.units[at], self.engine
        flags = kept.flags
        read = 0.0 if flags[0] else np.ceil(unit.input_elements * e.input_bits / e.burst_bit) * e.burst_bit
        written = 0.0 if flags[1] else np.ceil(unit.output_elements * e.output_bits / e.burst_bit) * e.burst_bit
        load, store = np.ceil(read / e.bits_per_cycle), np.ceil(written / e.bits_per_cycle)
        moving = max(load, store) if e.duplex else load + store
        compute = self.vector_cycle(at)
        rows = np.zeros(len(ROWS) - 1)
        moved = {
            "dram_i_read": read, "dram_o_write": written,
            "input_i_read": flags[0] * kept.in_bit, "input_o_write": flags[1] * kept.out_bit,
        }  # fmt: skip
        for name, bits in moved.items():
            rows[ROWS.index(name)] = bits
        cycles = np.maximum(compute, moving) if e.double_buffered else compute + load + store
        holds = self.capacity[:, 0 if self.shared else 1] >= kept.in_bit + kept.out_bit
        return rows, cycles, holds

    def vector_cycle(self, at: int) -> Array:
        """[members]: cycles of the vector unit for unit ``at``."""
        lanes = self.machines.vector_lanes[self.members]
        return np.ceil(self.plan.units[at].vector_ops / lanes)

    def costs(self, at: int) -> Array:
        """[2, 2, members, 2]: what :func:`keep_maps` takes."""
        plan, found = self.plan, np.full((2, 2, len(self.members), 2), np.inf)
        before = (0, 1) if at and plan.links[at - 1] else (0,)
        behind = (0, 1) if at < len(plan.links) and plan.links[at] else (0,)
        for a in before:
            for b in behind:
                kept = self.kept(at, a, b)
                if plan.nests[at] is None:
                    rows, cycles, holds = self.vector(at, kept)
                    pair = np.stack([cycles, np.full_like(cycles, rows[:4].sum())], axis=1)
                    if self.silicon is not None:
                        whole = np.append(rows, cycles)[:, np.newaxis]
                        pair = np.stack([self.energy(whole, self.silicon), cycles], axis=1)
                    found[a, b] = np.where(holds[:, np.newaxis], pair, np.inf)
                    continue
                table, picks = self.pick(at, kept)
                if len(table):
                    pair = table.costs[picks]
                    if self.silicon is None:
                        pair[:, 0] = np.maximum(pair[:, 0], self.vector_cycle(at))
                    found[a, b] = np.where((picks >= 0)[:, np.newaxis], pair, np.inf)
        return found

    def unit_rows(self, at: int, before: Array, behind: Array) -> tuple[Array, Array]:
        """([len(ROWS), members] of unit ``at``, [members] the mapping in its table; -1 for a vector unit or none)."""
        found, mapped = np.zeros((len(ROWS), len(self.members))), np.full(len(self.members), -1)
        for a in (0, 1):
            for b in (0, 1):
                mine = np.flatnonzero((before == a) & (behind == b))
                if not len(mine):
                    continue
                kept = self.kept(at, a, b)
                if self.plan.nests[at] is None:
                    rows, cycles, _ = self.vector(at, kept)
                    found[:-1, mine], found[-1, mine] = rows[:, np.newaxis], cycles[mine]
                    continue
                table, picks = self.pick(at, kept)
                mine = mine[picks[mine] >= 0]
                distinct, inverse = np.unique(picks[mine], return_inverse=True)
                if len(mine):
                    found[:, mine] = self.rows(table, distinct)[:, inverse]
                    found[-1, mine] = np.maximum(found[-1, mine], self.vector_cycle(at)[mine])
                    mapped[mine] = picks[mine]
        return found, mapped

    def solve(self, rows: Array, reason: Array) -> tuple[Array, list[Array]]:
        """Fill in the members' columns of ``rows`` and ``reason``; (kept maps, mappings of each unit)."""
        costs = [self.costs(at) for at in range(len(self.plan.units))]
        kept, mapped = keep_maps(costs), []
        here = np.arange(len(self.members))
        ways = [cost[kept[at].astype(int), kept[at + 1].astype(int), here, 0] for at, cost in enumerate(costs)]
        # a unit may have a mapping only where its neighbour keeps a map, and the neighbour none that keeps it
        never = np.isinf(ways).any(axis=0)
        for at in range(len(costs)):
            found, picks = self.unit_rows(at, kept[at], kept[at + 1])
            rows[:, self.members] += found
            mapped.append(picks)
            lacks = never & np.isinf(costs[at][0, 0, :, 0]) & (reason[self.members] == 0)
            if lacks.any():
                reason[self.members[lacks]] = _reason(self, at)[lacks]
        return kept, mapped


def unlimited(shared: bool) -> Array:
    """Buffers with room for everything."""
    return np.array([[np.inf, 0, 0]]) if shared else np.array([[np.inf, np.inf, np.inf]])


@dataclass
class SpatialCost:
    """A workload on N machines; arrays over machines, which mean something where ``reason`` is 0.

    Attributes:
        plan, machines, silicon: what was mapped onto what.
        rows: [len(ROWS), N]: bits moved and cycles, all layers together.
        mac_count, lane_values, vector_ops: of the workload.
        reason: index into ``REASONS``.
        evaluated: (layer, mapping) pairs whose cost was computed; machines that differ in their buffers share them.
    """

    plan: Plan
    machines: SpatialArrays
    silicon: SpatialSilicon
    rows: Array
    reason: Array
    evaluated: int

    @property
    def latency_cycle(self) -> Array:
        """Cycles of one inference (of the whole batch)."""
        latency: Array = self.rows[-1]
        return latency

    @cached_property
    def energy_parts(self) -> dict[str, dict[str, Array]]:
        """pJ by part and band, leakage too."""
        return dynamic_energy(self.rows, self.plan.macs, lane_values(self.plan), self.silicon, leakage=True)


def lane_values(plan: Plan) -> int:
    """Values through a lane: what the array makes is requantised, and the vector unit's operations."""
    made = sum(unit.output_elements for unit in plan.units if unit.array)
    return made + sum(unit.vector_ops for unit in plan.units)


def check_objective(objective: str) -> None:
    """Raise InvalidInputError for one that is none."""
    if objective not in OBJECTIVES:
        raise InvalidInputError(f"objective is one of {', '.join(map(repr, OBJECTIVES))}, but got {objective!r}")


def evaluate_spatial(
    workload: Workload,
    machines: SpatialArrays,
    *,
    fusion: bool = True,
    constraints: Mapping[str, Constraint] | None = None,
    objective: str = "latency",
    on_group: Callable[[Group, Array, list[Array]], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> SpatialCost:
    """``workload`` on each of ``machines``, every layer with its best mapping there.

    Args:
        fusion: maps may stay on chip between layers.
        constraints: by layer, what its mapping must be.
        objective: ``"latency"``: the fewest cycles, then the least DRAM traffic; ``"energy"``: the least energy, then
            the fewest cycles (one machine after the other, since energies depend on the buffers).
        on_group: is shown every group with its kept maps and the mappings of its units.
        progress: called as ``progress(done, total, message)`` after each array that is mapped.
    """
    check_objective(objective)
    plan, silicon = Plan.of(workload, fusion), spatial_silicon(machines)
    rows, reason = np.zeros((len(ROWS), len(machines))), np.zeros(len(machines), dtype=np.int64)
    size = 1 if objective == "energy" else CHUNK
    parts = [
        Group(plan, engine, machines, everyone[start : start + size], constraints or {})
        for engine, everyone in engines_of(machines)
        for start in range(0, len(everyone), size)
    ]

    def run(group: Group) -> int:
        if objective == "energy":
            group.silicon = silicon.of(group.members)
        mapped = group.solve(rows, reason)
        evaluated = sum(table.evaluated for table in group.tables.values())
        if on_group is not None:
            on_group(group, *mapped)
        else:
            group.tables.clear()
            group.picks.clear()
        return evaluated

    # what numba compiled holds no lock, so that threads share the cores
    with ThreadPoolExecutor(max_workers=min(len(parts), os.cpu_count() or 1)) as pool:
        evaluated = 0
        for done, count in enumerate(pool.map(run, parts), 1):
            evaluated += count
            if progress is not None:
                progress(done, len(parts), "arrays mapped")
    return SpatialCost(plan, machines, silicon, rows, reason, evaluated)


def least_needs(group: Group, at: int) -> Array:
    """[3]: the least that any mapping of unit ``at`` needs of each buffer (bit); of a shared one, 0, 0."""
    found: Array = group.table(at, Kept(), unlimited(group.shared)).needs.min(axis=0)
    return found


def _reason(group: Group, at: int) -> Array:
    """Why each member cannot run unit ``at``."""
    if group.shared:
        return np.full(len(group.members), REASONS.index("shared buffer too small"))
    lacks = least_needs(group, at) > group.capacity
    return np.where(lacks.any(axis=1), 1 + lacks.argmax(axis=1), REASONS.index("buffers too small together"))
