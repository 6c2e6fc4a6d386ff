"""Every mapping of a layer at once, and the best one for each machine.

Machines that differ only in their buffers share one table of mappings: what decides cycles is an :class:`Engine`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from codesign_kernel.accelerator.spatial import SpatialArrays
from codesign_kernel.cost import tiles
from codesign_kernel.cost.tiles import IS, OS, Channels, Engine, Rows, Shape, Stay
from codesign_kernel.mapping.nest import Cuts, Nest, channel_cuts, row_cuts

Array = np.ndarray[Any, Any]
#: A table over all combinations of capacities is worth while up to so many entries for each machine.
TABLE_FACTOR = 4
_KEYS = (
    "rows", "cols", "dataflow", "overlap", "im2col", "weight_bits", "input_bits", "output_bits", "acc_bits",
    "double_buffered", "duplex", "burst_bytes", "bits_per_cycle",
)  # fmt: skip


def engines_of(machines: SpatialArrays) -> list[tuple[Engine, Array]]:
    """The distinct engines, and the machines that have each of them (indices).

    Machines of one entry also agree in whether their buffer is shared and in ``register_words``.
    """
    columns = [getattr(machines, name) for name in _KEYS] + [machines.shared_kib > 0, machines.register_words]
    keys = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(inverse.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(inverse.reshape(-1), minlength=len(distinct)))[:-1]
    return [(_engine(row), members) for row, members in zip(distinct, np.split(order, ends), strict=True)]


def _engine(row: Array) -> Engine:
    values: dict[str, Any] = dict(zip(_KEYS, row.tolist(), strict=False))
    whole = {name: int(values[name]) for name in ("overlap", "im2col", "double_buffered", "duplex")}
    kept = {name: values[name] for name in Engine._fields if name in values}
    return Engine(**{**kept, **whole, "flow": int(values["dataflow"]), "burst_bit": 8.0 * values["burst_bytes"]})


@dataclass(frozen=True)
class Kept:
    """Maps that stay on chip: bits of the input and of the output map, 0 for one that does not stay."""

    in_bit: float = 0.0
    out_bit: float = 0.0

    @property
    def flags(self) -> tuple[int, int]:
        """The same as truths, 0 or 1."""
        return int(self.in_bit > 0), int(self.out_bit > 0)


@dataclass(frozen=True)
class Family:
    """One of the two kinds of tilings of a layer on an engine: its cuts along the three loops."""

    shape: Shape
    y: Cuts
    k: Cuts
    c: Cuts

    def loops(self, which: Array) -> tuple[Rows, Channels, Channels]:
        """The cuts of some mappings ([..., 3] candidates), kinds first."""
        a, b, d = which[..., 0], which[..., 1], which[..., 2]
        y, k, c = self.y, self.k, self.c
        return (
            Rows(y.tiles[a], y.count[a].T, y.extent[a].T, y.seen[a].T),
            Channels(k.tiles[b], k.count[b].T, k.extent[b].T),
            Channels(c.tiles[d], c.count[d].T, c.extent[d].T),
        )

    def all_loops(self) -> tuple[Rows, Channels, Channels]:
        """The cuts of all candidates, candidates first: what :func:`compiled.every_mapping` takes."""
        y, k, c = self.y, self.k, self.c
        return (
            Rows(y.tiles, y.count, y.extent, y.seen),
            Channels(k.tiles, k.count, k.extent),
            Channels(c.tiles, c.count, c.extent),
        )


def families(nest: Nest, engine: Engine) -> list[Family]:
    """Tilings of single groups, and, where there are several, tilings of whole groups."""
    k_unit = 1 if engine.flow == IS else int(engine.cols)
    c_unit = 1 if engine.flow == OS or engine.im2col else int(engine.rows)
    y = row_cuts(nest)

    def shape(grouped: int) -> Shape:
        return Shape(
            width=float(nest.OX),
            in_width=float(nest.IX),
            taps=float(nest.taps),
            groups=float(nest.G),
            channels=float(nest.K),
            in_channels=float(nest.C),
            inputs=float(nest.inputs // nest.G),
            outputs=float(nest.outputs // nest.G),
            grouped=grouped,
            serial=int(nest.serial),
        )

    found = [Family(shape(0), y, channel_cuts(nest.K, k_unit), channel_cuts(nest.C, c_unit))]
    if nest.G > 1:
        found.append(Family(shape(1), y, channel_cuts(nest.G, 1), channel_cuts(nest.C, nest.C)))
    return found


@dataclass(frozen=True)
class Table:
    """All mappings of one layer on one engine that the largest buffers hold.

    Attributes:
        evaluated: mappings whose cost was computed, those that are not kept here too.
        which: [mappings, 6]: candidates along y, k and c, innermost loop, row of ``compiled.STAYS``, family.
        costs: [mappings, 2]: what is minimised, and what decides between equals: cycles and DRAM bits.
        cycle: [mappings, 2]: cycles of the array, and of the whole layer.
        needs: [mappings, 3]: bits of the weight, input and output buffer; or of the shared one, 0, 0.
    """

    families: list[Family]
    engine: Engine
    kept: Kept
    which: Array
    costs: Array
    cycle: Array
    needs: Array
    evaluated: int

    def __len__(self) -> int:
        return len(self.which)

    def best(self, capacity: Array) -> Array:
        """The best mapping for each of ``capacity`` [machines, 3] (bit); -1 where none fits."""
        from codesign_kernel.cost.compiled import best_by_capacity, best_of_each

        axes = [np.unique(capacity[:, axis]) for axis in range(3)]
        if np.prod([len(axis) for axis in axes]) > TABLE_FACTOR * len(capacity):
            return best_of_each(self.costs, self.needs, capacity)
        table = best_by_capacity(self.costs, self.needs, *axes)
        return table[tuple(np.searchsorted(axes[axis], capacity[:, axis]) for axis in range(3))]

    def accesses(self, chosen: Array, register_words: int) -> Array:
        """Bits of each field of :class:`tiles.Access` for the mappings ``chosen``: [fields, chosen]."""
        found = np.zeros((len(tiles.Access._fields), len(chosen)))
        for number, family in enumerate(self.families):
            mine = self.which[chosen, 5] == number
            if mine.any():
                which = self.which[chosen[mine]]
                moved = tiles.accesses(
                    *family.loops(which), stay_of(which), family.shape, self.engine, *self.kept.flags, register_words
                )
                for row, bits in enumerate(moved):
                    found[row, mine] = bits
        return found

    def cycles_by_numpy(self, chosen: Array) -> Array:
        """Cycles of the mappings ``chosen``, not by the compiled code."""
        found = np.zeros(len(chosen))
        for number, family in enumerate(self.families):
            mine = self.which[chosen, 5] == number
            if mine.any():
                which = self.which[chosen[mine]]
                found[mine], _ = tiles.layer_cycle(
                    *family.loops(which), stay_of(which), family.shape, self.engine, *self.kept.flags
                )
        return found

    def only(self, kept: Array) -> Table:
        """The mappings where ``kept`` [mappings] is true."""
        return replace(
            self, which=self.which[kept], costs=self.costs[kept], cycle=self.cycle[kept], needs=self.needs[kept]
        )

    def with_costs(self, costs: Array) -> Table:
        """The same mappings under other ``costs``."""
        return replace(self, costs=costs)

    @cached_property
    def tiles(self) -> Array:
        """[mappings, 3]: tiles along y (of all images), k and c."""
        found = np.zeros((len(self.which), 3))
        for number, family in enumerate(self.families):
            mine = self.which[:, 5] == number
            for axis, cuts in enumerate((family.y, family.k, family.c)):
                found[mine, axis] = cuts.tiles[self.which[mine, axis]]
        return found

    @cached_property
    def channel_sizes(self) -> Array:
        """``sizes``, with k in output channels for tiles of groups too."""
        sizes = self.sizes.copy()
        for number, family in enumerate(self.families):
            if family.shape.grouped:
                sizes[self.which[:, 5] == number, 1] *= family.shape.channels
        return sizes

    @cached_property
    def sizes(self) -> Array:
        """[mappings, 3]: elements of a full tile along y, k (channels, or groups) and c."""
        sizes = np.zeros((len(self.which), 3))
        for number, family in enumerate(self.families):
            mine = self.which[:, 5] == number
            for axis, cuts in enumerate((family.y, family.k, family.c)):
                sizes[mine, axis] = cuts.size[self.which[mine, axis]]
        return sizes


def stay_of(which: Array) -> Stay:
    """What stays under some mappings (rows of :attr:`Table.which`)."""
    from codesign_kernel.cost.compiled import STAYS

    return Stay(*STAYS[which[..., 4]].T)


def mappings(
    nest: Nest,
    engine: Engine,
    capacity: Array,
    shared: bool,
    kept: Kept = Kept(),
    *,
    every: bool = False,
) -> Table:
    """The mappings of ``nest`` on ``engine``.

    Args:
        capacity: [machines, 3]: bits of the weight, input and output buffers; or of the shared one, 0 and 0.
        shared: which of the two.
        kept: maps that stay on chip.
        every: all that fit the buffers of any machine; else only those among which the best ones of all machines are.
    """
    from codesign_kernel.cost.compiled import every_mapping

    # of one type each, whatever a caller counts in: numba compiles anew for every combination, which takes seconds
    sizes = tuple(np.unique(capacity[:, axis]).astype(np.float64) for axis in range(3))
    maps = float(kept.in_bit), float(kept.out_bit)
    if np.prod([len(axis) for axis in sizes]) > TABLE_FACTOR * len(capacity):
        every, sizes = True, tuple(axis[-1:] for axis in sizes)
    found = families(nest, engine)
    parts = [
        every_mapping(*family.all_loops(), family.shape, engine, *maps, bool(shared), sizes, bool(every))
        for family in found
    ]
    which = [np.column_stack([part[0], np.full(len(part[0]), number)]) for number, part in enumerate(parts)]
    costs, needs = (np.concatenate([part[at] for part in parts]) for at in (1, 2))
    evaluated = sum(part[3] for part in parts)
    first = np.ascontiguousarray(costs[:, :2])
    return Table(found, engine, kept, np.concatenate(which), first, costs[:, [2, 0]], needs, evaluated)
