"""The formulas of :mod:`.tiles`, compiled: every mapping of a layer, and the best one for every set of buffers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.extending import overload, register_jitable

from codesign_kernel import numerics
from codesign_kernel.cost import tiles
from codesign_kernel.cost.tiles import Channels, Rows

Array = np.ndarray[Any, Any]


# the typing of an overload and its implementation must have one signature, annotations included
def _maximum(a: Any, b: Any) -> Any:
    return a if a > b else b


def _minimum(a: Any, b: Any) -> Any:
    return a if a < b else b


def _ceil(a: Any) -> Any:
    return np.ceil(a)


def _floor(a: Any) -> Any:
    return np.floor(a)


def _where(condition: Any, a: Any, b: Any) -> Any:
    return a if condition else b


def _nothing(count: Any) -> Any:
    return count == 0


def _typing_of(scalar: Callable[..., Any]) -> Callable[..., Any]:
    """What ``overload`` wants: a function of the same signature that gives the implementation."""

    @wraps(scalar)
    def typing(*arguments: Any) -> Callable[..., Any]:
        return scalar

    return typing


for _name in ("maximum", "minimum", "ceil", "floor", "where", "nothing"):
    _scalar = globals()[f"_{_name}"]
    overload(getattr(numerics, _name))(_typing_of(_scalar))

for _formula in (
    tiles.fold_count, tiles.array_cycle, tiles.compute_cycle, tiles.bursts, tiles.tile_cycle, tiles.tile_bits,
    tiles.whole_bits,
):  # fmt: skip
    register_jitable(_formula)

#: Which of W, I and O stay (:class:`tiles.Stay`), in every way: at least the one that the innermost loop leaves alone.
STAYS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=np.float64)
WAYS = len(STAYS)
#: [after, operand, way]: whether a tile loads W, I and partial sums; bits of ``after``: it is not the first of y, k, c.
LOADS = np.array(
    [
        [1 - STAYS[:, 0] * (after & 1), 1 - STAYS[:, 1] * (after >> 1 & 1), (1 - STAYS[:, 2]) * (after >> 2 & 1)]
        for after in range(8)
    ]
)
#: Whether partial sums leave, by way.
LEAVES = 1 - STAYS[:, 2]


class Pairs(NamedTuple):
    """What depends on two of the three loops, by candidates and kinds of tiles: whole bursts (bit) of W
    [k, c, kind, kind], I [y, c, ...], sums and results [y, k, ...]; folds, by the loops that lie on the array."""

    w: Array
    i: Array
    sums: Array
    out: Array
    folds: Array


@njit(nogil=True, error_model="numpy")
def _bursts_of(y: Rows, k: Channels, c: Channels, shape: Any, e: Any, keep_in: int, keep_out: int) -> Any:
    """W, I, sums and results of :class:`Pairs`; I as if tiles had one group."""
    kinds = y.count.shape[1]
    w, i = np.empty((len(k.tiles), len(c.tiles), 3, 3)), np.empty((len(y.tiles), len(c.tiles), kinds, 3))
    sums, out = np.empty((len(y.tiles), len(k.tiles), kinds, 3)), np.empty((len(y.tiles), len(k.tiles), kinds, 3))
    for b in range(len(k.tiles)):
        for j in range(3):
            outputs = k.extent[b, j] * (shape.channels if shape.grouped else 1.0)
            for d in range(len(c.tiles)):
                for h in range(3):
                    w[b, d, j, h] = tiles.bursts(outputs * c.extent[d, h] * shape.taps * e.weight_bits, e)
            for a in range(len(y.tiles)):
                for t in range(kinds):
                    elements = y.extent[a, t] * shape.width * outputs
                    sums[a, b, t, j] = tiles.bursts(elements * e.acc_bits, e)
                    out[a, b, t, j] = tiles.bursts(elements * e.output_bits, e) * (1 - keep_out)
    for a in range(len(y.tiles)):
        for t in range(kinds):
            for d in range(len(c.tiles)):
                for h in range(3):
                    bits = y.seen[a, t] * shape.in_width * c.extent[d, h] * e.input_bits
                    i[a, d, t, h] = tiles.bursts(bits, e) * (1 - keep_in)
    return w, i, sums, out


@njit(nogil=True, error_model="numpy")
def _folds_of(y: Rows, k: Channels, c: Channels, shape: Any, e: Any) -> Array:
    """Folds of tiles of one group, by the loops on the rows and on the columns."""
    sides = (c.extent, k.extent) if e.flow == 0 else (y.extent, k.extent) if e.flow == 1 else (c.extent, y.extent)
    rows, cols = sides
    on_rows = shape.width if e.flow == 1 else shape.taps if e.im2col else 1.0
    on_cols = shape.width if e.flow == 2 else 1.0
    folds = np.empty((rows.shape[0], cols.shape[0], rows.shape[1], cols.shape[1]))
    for a in range(rows.shape[0]):
        for b in range(cols.shape[0]):
            for s in range(rows.shape[1]):
                for t in range(cols.shape[1]):
                    folds[a, b, s, t] = tiles.fold_count(rows[a, s] * on_rows, cols[b, t] * on_cols, 1.0, shape.taps, e)
    return folds


@njit(nogil=True, error_model="numpy")
def _tile(at: Any, kind: Any, y: Rows, k: Channels, c: Channels, pairs: Pairs, shape: Any, e: Any, keep_in: int) -> Any:
    """(compute, W, I, sums, results) of one kind of tile, all moving."""
    a, b, d = at
    t, j, h = kind
    w, sums, out = pairs.w[b, d, j, h], pairs.sums[a, b, t, j], pairs.out[a, b, t, j]
    if shape.grouped:
        groups, m = k.extent[b, j], y.extent[a, t] * shape.width
        bits = y.seen[a, t] * shape.in_width * c.extent[d, h] * groups * e.input_bits
        compute = tiles.compute_cycle(m, shape.channels, c.extent[d, h], groups, shape, e)
        return compute, w, tiles.bursts(bits, e) * (1 - keep_in), sums, out
    if e.flow == 0:
        folds, stream = pairs.folds[d, b, h, j], y.extent[a, t] * shape.width
    elif e.flow == 1:
        folds, stream = pairs.folds[a, b, t, j], c.extent[d, h] * shape.taps
    else:
        folds, stream = pairs.folds[d, a, h, t], k.extent[b, j]
    return tiles.array_cycle(folds, stream, e), w, pairs.i[a, d, t, h], sums, out


@njit(nogil=True, error_model="numpy")
def _sum_tiles(
    at: Any, y: Rows, k: Channels, c: Channels, pairs: Pairs, shape: Any, e: Any, keep_in: int, sums_of: Any
) -> float:
    """Cycles and DRAM bits of one tiling, one for each row of ``STAYS``, into ``sums_of``; what
    :func:`tiles.layer_cycle` says of each. Returns the array's cycles."""
    a, b, d = at
    cycles, moved = sums_of
    cycles[:], moved[:] = 0.0, 0.0
    busy, one_c = 0.0, c.tiles[d] == 1
    per_group = 0 if shape.grouped else 1
    for h in range(3):
        for j in range(3):
            for t in range(y.count.shape[1]):
                count = y.count[a, t] * k.count[b, j] * c.count[d, h]
                if count == 0:
                    continue
                compute, w, i, sums, out = _tile(at, (t, j, h), y, k, c, pairs, shape, e, keep_in)
                busy += count * compute
                after = (t > 0) + 2 * (j > 0) * per_group + 4 * (h > 0)
                last_c = h == 2 or one_c
                stored, spilled = (out, out) if last_c else (0.0, sums)
                end, back = np.ceil(stored / e.bits_per_cycle), np.ceil(spilled / e.bits_per_cycle)
                # no branch in here, so that it becomes vector instructions
                for v in range(WAYS):
                    loaded = w * LOADS[after, 0, v] + i * LOADS[after, 1, v] + sums * LOADS[after, 2, v]
                    load, store = np.ceil(loaded / e.bits_per_cycle), end + (back - end) * LEAVES[v]
                    cycles[v] += count * tiles.tile_cycle(compute, load, store, e)
                    moved[v] += count * (loaded + stored + (spilled - stored) * LEAVES[v])
    repeats = 1.0 if shape.grouped else shape.groups
    cycles *= repeats
    moved *= repeats
    if e.double_buffered:
        _ends(at, y, k, c, pairs, shape, e, keep_in, cycles)
    return busy * repeats


@njit(nogil=True, error_model="numpy")
def _ends(
    at: Any, y: Rows, k: Channels, c: Channels, pairs: Pairs, shape: Any, e: Any, keep_in: int, cycles: Array
) -> None:
    """Take the first tile's load and the last tile's store out from behind the array."""
    a, b, d = at
    one_c = c.tiles[d] == 1
    per_group = 0 if shape.grouped else 1
    compute, w, i, sums, out = _tile(at, (0, 0, 0), y, k, c, pairs, shape, e, keep_in)
    last = (y.count.shape[1] - 1, 2, 2)
    compute_last, w_last, i_last, sums_last, out_last = _tile(at, last, y, k, c, pairs, shape, e, keep_in)
    after = (y.tiles[a] > 1) + 2 * (k.tiles[b] > 1) * per_group + 4 * (c.tiles[d] > 1)
    load, end = np.ceil((w + i) / e.bits_per_cycle), np.ceil(out_last / e.bits_per_cycle)
    if y.tiles[a] * k.tiles[b] * c.tiles[d] * (1.0 if shape.grouped else shape.groups) == 1:
        cycles[:] = load + compute + end
        return
    for v in range(WAYS):
        store = np.ceil((out if one_c else sums * LEAVES[v]) / e.bits_per_cycle)
        loaded = w_last * LOADS[after, 0, v] + i_last * LOADS[after, 1, v] + sums_last * LOADS[after, 2, v]
        load_last = np.ceil(loaded / e.bits_per_cycle)
        cycles[v] += load + tiles.tile_cycle(compute, 0.0, store, e) - tiles.tile_cycle(compute, load, store, e)
        cycles[v] += end + tiles.tile_cycle(compute_last, load_last, 0.0, e)
        cycles[v] -= tiles.tile_cycle(compute_last, load_last, end, e)


@njit(nogil=True, error_model="numpy")
def _needs(
    v: int, inner: int, tile: Any, whole: Any, kept_in_bit: float, kept_out_bit: float, shared: bool
) -> tuple[float, float, float]:
    """Bits of the weight, input and output buffer, or of the shared one, 0 and 0."""
    w = whole[0] if STAYS[v, 0] and inner != 0 else tile[0]
    i = whole[1] if STAYS[v, 1] and inner != 1 else tile[1]
    o = whole[2] if STAYS[v, 2] and inner != 2 else tile[2]
    i = (kept_in_bit if kept_in_bit > 0 else i) + kept_out_bit
    return (w + i + o, 0.0, 0.0) if shared else (w, i, o)


@njit(nogil=True, error_model="numpy")
def _makes_sense(v: int, inner: int, runs: Any, grouped: bool, keep_in: int) -> bool:
    """The innermost loop runs, and whatever is held besides would otherwise move more than once."""
    if not STAYS[v, inner]:
        return False
    if runs[0] * runs[1] * runs[2] == 1:
        return v == 0 and inner == 0
    for operand in range(3):
        if STAYS[v, operand] and runs[operand] == 1:
            return False
    # an input tile of some groups has its own turn of the k loop, and a kept map has no tiles
    return not (STAYS[v, 1] and inner != 1 and (grouped or keep_in))


def _compiled_from(formulas: str) -> Callable[..., tuple[Array, Array, Array, int]]:
    """``every_mapping``, for the ``formulas`` of that digest.

    numba keeps what it compiled until this file changes, whatever becomes of the files that it calls into; what a
    closure holds, however, is part of its key.
    """

    @njit(cache=True, nogil=True, error_model="numpy")
    def every_mapping(
        y: Rows, k: Channels, c: Channels, shape: Any, e: Any, kept_in_bit: float, kept_out_bit: float, shared: bool,
        sizes: Any, all_of_them: bool,
    ) -> tuple[Array, Array, Array, int]:  # fmt: skip
        """The mappings of a layer that fit some of the buffers ``sizes``.

        Args:
            y, k, c: the cuts of the three loops: arrays over candidates (and kinds of tiles).
            sizes: capacities (bit) of the weight, input and output buffers of some machines, each ascending; or of the
                shared ones, and [0] twice.
            all_of_them: every mapping; else those that beat all mappings before them in some set of buffers.

        Returns:
            [mappings, 5] y, k, c candidate, innermost loop and row of ``STAYS``; [mappings, 3] cycles, DRAM
            bits and cycles of the array; [mappings, 3] needs of the buffers (see ``_needs``); how many
            mappings were evaluated.
        """
        assert formulas
        keep_in, keep_out = int(kept_in_bit > 0), int(kept_out_bit > 0)
        w, i, sums, out = _bursts_of(y, k, c, shape, e, keep_in, keep_out)
        pairs = Pairs(w, i, sums, out, _folds_of(y, k, c, shape, e))
        whole = tiles.whole_bits(shape, e)
        most = (sizes[0][-1], sizes[1][-1], sizes[2][-1])
        best = np.full((len(sizes[0]), len(sizes[1]), len(sizes[2]), 2), np.inf)
        which, costs, needs = np.empty((1024, 5), dtype=np.int32), np.empty((1024, 3)), np.empty((1024, 3))
        found, seen, sums_of = 0, 0, (np.empty(WAYS), np.empty(WAYS))
        for a in range(len(y.tiles)):
            for b in range(len(k.tiles)):
                for d in range(len(c.tiles)):
                    of_y = Rows(y.tiles[a], y.count[a], y.extent[a], y.seen[a])
                    of_k = Channels(k.tiles[b], k.count[b], k.extent[b])
                    of_c = Channels(c.tiles[d], c.count[d], c.extent[d])
                    tile = tiles.tile_bits(of_y, of_k, of_c, shape, e)
                    runs = (y.tiles[a], k.tiles[b], c.tiles[d])
                    busy = -1.0
                    for v in range(WAYS):
                        for inner in range(3):
                            if not _makes_sense(v, inner, runs, shape.grouped, keep_in):
                                continue
                            need = _needs(v, inner, tile, whole, kept_in_bit, kept_out_bit, shared)
                            if need[0] > most[0] or need[1] > most[1] or need[2] > most[2]:
                                continue
                            if busy < 0:
                                busy = _sum_tiles((a, b, d), y, k, c, pairs, shape, e, keep_in, sums_of)
                            seen += 1
                            cycles, moved = sums_of[0][v], sums_of[1][v]
                            so_far = best[
                                np.searchsorted(sizes[0], need[0]),
                                np.searchsorted(sizes[1], need[1]),
                                np.searchsorted(sizes[2], need[2]),
                            ]
                            better = cycles < so_far[0] or (cycles == so_far[0] and moved < so_far[1])
                            if better:
                                so_far[0], so_far[1] = cycles, moved
                            elif not all_of_them:
                                continue
                            if found == len(which):
                                which = np.concatenate((which, np.empty_like(which)))
                                costs = np.concatenate((costs, np.empty_like(costs)))
                                needs = np.concatenate((needs, np.empty_like(needs)))
                            which[found, 0], which[found, 1], which[found, 2] = a, b, d
                            which[found, 3], which[found, 4] = inner, v
                            costs[found, 0], costs[found, 1], costs[found, 2] = cycles, moved, busy
                            needs[found, 0], needs[found, 1], needs[found, 2] = need
                            found += 1
        return which[:found].copy(), costs[:found].copy(), needs[:found].copy(), seen

    return every_mapping


every_mapping = _compiled_from(
    hashlib.sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in (tiles, numerics))).hexdigest()
)


@njit(cache=True, nogil=True, error_model="numpy")
def _better(costs: Array, a: int, b: int) -> bool:
    """Mapping ``a`` beats ``b`` (-1: none): less of the first cost, or as much of it and less of the second."""
    if a < 0:
        return False
    if b < 0:
        return True
    if costs[a, 0] != costs[b, 0]:
        return bool(costs[a, 0] < costs[b, 0])
    if costs[a, 1] != costs[b, 1]:
        return bool(costs[a, 1] < costs[b, 1])
    return a < b


@njit(cache=True, nogil=True, error_model="numpy")
def best_by_capacity(costs: Array, needs: Array, w: Array, i: Array, o: Array) -> Array:
    """[len(w), len(i), len(o)]: the best mapping that fits each combination of ascending capacities; -1 for none.

    Each mapping is entered at the smallest buffers that hold it; then what fits smaller buffers fits larger ones.
    """
    table = np.full((len(w), len(i), len(o)), -1, dtype=np.int64)
    for p in range(len(costs)):
        a, b, c = np.searchsorted(w, needs[p, 0]), np.searchsorted(i, needs[p, 1]), np.searchsorted(o, needs[p, 2])
        if a < len(w) and b < len(i) and c < len(o) and _better(costs, p, table[a, b, c]):
            table[a, b, c] = p
    for a in range(len(w)):
        for b in range(len(i)):
            for c in range(len(o)):
                if a and _better(costs, table[a - 1, b, c], table[a, b, c]):
                    table[a, b, c] = table[a - 1, b, c]
                if b and _better(costs, table[a, b - 1, c], table[a, b, c]):
                    table[a, b, c] = table[a, b - 1, c]
                if c and _better(costs, table[a, b, c - 1], table[a, b, c]):
                    table[a, b, c] = table[a, b, c - 1]
    return table


@njit(cache=True, nogil=True, error_model="numpy")
def best_of_each(costs: Array, needs: Array, capacity: Array) -> Array:
    """[machines]: the best mapping that fits ``capacity`` [machines, 3] of each; -1 for none."""
    best = np.full(len(capacity), -1, dtype=np.int64)
    for n in range(len(capacity)):
        for p in range(len(costs)):
            fits = needs[p, 0] <= capacity[n, 0] and needs[p, 1] <= capacity[n, 1] and needs[p, 2] <= capacity[n, 2]
            if fits and _better(costs, p, best[n]):
                best[n] = p
    return best
