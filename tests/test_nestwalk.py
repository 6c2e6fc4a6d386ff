"""The slow road itself, against cases worked out on paper from docs/mapping.md.

Unless a case says otherwise, the array has 2 x 3 PEs, a burst is one byte, and DRAM delivers one byte in a clock: bytes
moved are cycles.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from nestwalk import best, fits, legal_tilings, product_of, walk
from spatialcases import DEPTHWISE, GEMM, HALO, array, cuts

from codesign_kernel.workload import Layer

WHOLE = cuts(5, 4, 3)


@pytest.mark.parametrize(
    ("dataflow", "apart", "overlapped"),
    [
        ("ws", 4 * (5 + 2 + 2 + 3 - 2), 4 * 5 + 2 + 2 + 3 - 2),  # ceil(3/2) ceil(4/3) folds of 5 positions
        ("os", 6 * (3 + 0 + 2 + 3 - 2), 6 * 3 + 0 + 2 + 3 - 2),  # ceil(5/2) ceil(4/3) folds of 3 terms
        ("is", 4 * (4 + 2 + 2 + 3 - 2), 4 * 4 + 2 + 2 + 3 - 2),  # ceil(3/2) ceil(5/3) folds of 4 channels
    ],
)
def test_one_tile_loads_computes_and_stores(dataflow: str, apart: int, overlapped: int) -> None:
    for overlap, compute in ((False, apart), (True, overlapped)):
        for double in (False, True):
            machine = array(dataflow=dataflow, overlap=overlap, double_buffered=double)
            walked = walk(GEMM, machine, WHOLE, "ykc")
            assert walked.latency == (12 + 15) + compute + 20
            held = 20 * 8 if dataflow == "os" else 20 * 32  # finished sums leave the PEs narrow
            assert walked.needs == {"weight": 96, "input": 120, "output": held}
            assert walked.dram_bits == (12 + 15 + 20) * 8


def test_a_short_stream_waits_for_the_next_weights() -> None:
    one = replace(GEMM, B=1)  # 4 folds: 2 cycles for the weights, 1 for the stream
    assert walk(one, array(), cuts(1, 4, 3), "ykc").latency == (12 + 3) + (3 * 2 + 1 + 2 + 3) + 4


@pytest.mark.parametrize(
    ("dataflow", "register_words", "array_bits"),
    [
        # rows of k: 2 + 1; columns of n: 3 + 1, so I passes twice; 20 sums, twice, read the second time
        ("ws", 1, {"W": 96, "I": 30 * 8, "O write": 40 * 32, "O read": 20 * 32, "register": 96, "used": 60 * 8}),
        ("ws", 2, {"W": 96, "I": 15 * 8, "O write": 40 * 32, "O read": 20 * 32, "register": 96, "used": 60 * 8}),
        # rows of m: 2 + 2 + 1, so W passes three times; sums are new, and written once
        ("os", 1, {"W": 36 * 8, "I": 30 * 8, "O write": 640, "O read": 0, "register": 640, "used": 60 * 32}),
        ("os", 2, {"W": 36 * 8, "I": 15 * 8, "O write": 640, "O read": 0, "register": 640, "used": 60 * 32}),
        # columns of m: 3 + 2, so W passes twice
        ("is", 1, {"W": 24 * 8, "I": 120, "O write": 40 * 32, "O read": 20 * 32, "register": 120, "used": 60 * 8}),
        ("is", 2, {"W": 12 * 8, "I": 120, "O write": 40 * 32, "O read": 20 * 32, "register": 120, "used": 60 * 8}),
    ],
)
def test_accesses_of_one_tile(dataflow: str, register_words: int, array_bits: dict[str, int]) -> None:
    walked = walk(GEMM, array(dataflow=dataflow, register_words=register_words), WHOLE, "ykc")
    stays = {"ws": "W", "os": "O", "is": "I"}[dataflow]
    assert walked.accesses == {
        ("dram", "W", "read"): 96,
        ("dram", "I", "read"): 120,
        ("dram", "O", "write"): 160,
        ("weight", "W", "write"): 96,
        ("weight", "W", "read"): array_bits["W"],
        ("input", "I", "write"): 120,
        ("input", "I", "read"): array_bits["I"],
        ("output", "O", "write"): array_bits["O write"],
        ("output", "O", "read"): array_bits["O read"] + 20 * 32,  # and once on the way to DRAM
        ("register", stays, "write"): array_bits["register"],
        ("register", stays, "read"): array_bits["used"],
    }


@pytest.mark.parametrize(
    ("changes", "latency"),
    [
        # half a byte a clock; rows 2 + 2 + 1: loads 36 12 6, computes 3 max(m, 2) + m + 5 = 13 13 12, stores 16 16 8
        ({"duplex": True}, 36 + max(13, 16) + max(13, 12, 16) + max(12, 6) + 8),
        ({"duplex": False}, 36 + max(13, 16) + max(13, 12 + 16) + max(12, 6) + 8),
        ({"double_buffered": False}, (36 + 13 + 16) + (12 + 13 + 16) + (6 + 12 + 8)),
    ],
)
def test_memory_hides_behind_the_array_but_at_the_ends(changes: dict[str, bool], latency: int) -> None:
    walked = walk(GEMM, array(bandwidth_gb_s=0.5, **changes), cuts(2, 4, 3), "kcy")
    assert walked.latency == latency
    copies = 2 if changes.get("double_buffered", True) else 1
    # one tile of W in all: the second buffer would stay empty
    assert walked.needs == {"weight": 96, "input": copies * 6 * 8, "output": copies * 8 * 32}


@pytest.mark.parametrize(
    ("order", "weights", "inputs"),
    [
        ("yck", 9 + 3 + 9 + 3, 9 + 6),  # for each of two tiles of rows all of the weights
        ("kcy", 9 + 3, (9 + 6) * 2),
        ("ykc", 9 + 3 + 9 + 3, 9 + 6),  # c runs once: k is innermost
        ("kyc", 9 + 3, (9 + 6) * 2),
    ],
)
def test_what_does_not_depend_on_the_innermost_loop_stays(order: str, weights: int, inputs: int) -> None:
    walked = walk(GEMM, array(), cuts(3, 3, 3), order)
    assert walked.accesses["dram", "W", "read"] == weights * 8
    assert walked.accesses["dram", "I", "read"] == inputs * 8
    assert walked.accesses["dram", "O", "write"] == 20 * 8


def test_partial_sums_leave_at_full_precision_and_come_back() -> None:
    # rows 3 + 2, channels 2 + 1; loads W I O: 8+6, 4, 4+3+48, 2+32; stores 48, 32 (wide), 12, 8; computes 11, 9, 11, 9
    walked = walk(GEMM, array(), cuts(3, 4, 2), "cky")
    assert walked.latency == 14 + max(11, 48) + max(9, 4 + 32) + max(11, 55 + 12) + max(9, 34) + 8
    assert walked.accesses["dram", "O", "write"] == (48 + 32 + 12 + 8) * 8
    assert walked.accesses["dram", "O", "read"] == (48 + 32) * 8
    # the array writes 20 sums for each tile of c, DRAM 20; the array reads 20, DRAM 20 twice
    assert walked.accesses["output", "O", "write"] == 60 * 32
    assert walked.accesses["output", "O", "read"] == 60 * 32
    assert walked.needs == {"weight": 2 * 8 * 8, "input": 2 * 6 * 8, "output": 2 * 12 * 32}


def test_partial_sums_stay_where_c_is_innermost() -> None:
    # loads 8+6, 4+3, 8+4, 4+2; stores 0, 12, 0, 8
    walked = walk(GEMM, array(), cuts(3, 4, 2), "kyc")
    assert walked.latency == 14 + 11 + max(11, 7 + 12) + max(9, 12) + max(9, 6) + 8
    assert ("dram", "O", "read") not in walked.accesses
    assert walked.accesses["output", "O", "write"] == 40 * 32
    assert walked.accesses["output", "O", "read"] == (20 + 20) * 32
    outputs = walk(GEMM, array(dataflow="os"), cuts(3, 4, 2), "kyc")
    assert outputs.needs["output"] == 2 * 12 * 32  # not finished when they leave the PEs
    assert outputs.accesses["output", "O", "read"] == (20 + 20) * 32


def test_a_convolution_with_padding_and_stride() -> None:
    # two tiles of 2 rows: stored rows 0..3 and 3..6, 20 elements each; 5 folds of 6 positions
    walked = walk(HALO, array(), cuts(2, 2, 1), "kcy")
    assert walked.latency == (18 + 20) + max(35, 12) + max(35, 20) + 12
    assert walked.needs == {"weight": 18 * 8, "input": 2 * 20 * 8, "output": 2 * 12 * 32}
    assert walked.accesses["input", "I", "read"] == 12 * 9 * 8  # padding streams too


@pytest.mark.parametrize(
    ("changes", "y", "depths"),
    [
        ({}, 4, [7]),
        ({}, 3, [6, 2]),
        ({}, 1, [2, 3, 3, 2]),
        ({"B": 2}, 3, [6, 2, 6, 2]),  # a tile does not reach into the next image
        ({"stride": (1, 1), "padding": (2, 2), "dilation": (2, 2), "OY": 6, "IY": 6}, 4, [6, 4]),
        ({"FY": 1, "stride": (3, 3), "padding": (0, 0), "OY": 3}, 2, [4, 1]),  # rows between are loaded too
        ({"FY": 1, "stride": (1, 1), "padding": (2, 2), "OY": 5, "IY": 1}, 2, [0, 1, 0]),  # of padding only
    ],
)
def test_input_rows(changes: dict[str, Any], y: int, depths: list[int]) -> None:
    walked = walk(replace(HALO, **changes), array(), cuts(y, 2, 1), "kcy")
    assert walked.accesses["dram", "I", "read"] == sum(depths) * 5 * 8
    assert walked.needs["input"] == max(depths) * 5 * 8 * min(2, len(depths))
    assert walked.accesses["dram", "W", "read"] == 18 * 8 * walked.needs["weight"] // (18 * 8)


@pytest.mark.parametrize(
    ("channels", "dataflow", "im2col", "y", "folds"),
    [
        (1, "ws", True, 2, 3),  # 4 x 1 on 8 x 3: two side by side
        (1, "ws", False, 2, 4 * 2),  # 1 x 1: three side by side, tap by tap
        (3, "ws", True, 2, 5 * 2),  # 12 x 1 is larger than the array
        (3, "ws", False, 2, 4 * 3),  # 3 x 1: two side by side
        (1, "os", False, 2, 3),  # 4 x 1, and the taps pass in the stream
        (1, "os", True, 1, 2),  # 2 x 1: three side by side
        (1, "is", True, 2, 5 * 2),  # 4 x 4 is wider than the array
        (1, "is", True, 1, 5),  # 4 x 2: two on the rows, but no second one on the columns
    ],
)
def test_groups_lie_on_the_diagonal(channels: int, dataflow: str, im2col: bool, y: int, folds: int) -> None:
    layer = replace(DEPTHWISE, C=channels)
    machine = array(rows=8, dataflow=dataflow, im2col=im2col, overlap=False, double_buffered=False)
    walked = walk(layer, machine, cuts(y, 5, channels, grouped=True), "ykc")
    m, k = 2 * y, 4 * channels
    cycles = {"ws": m + 8, "os": k, "is": 1 + 8}[dataflow] + 8 + 3 - 2
    tiles = 2 // y
    weights, seen, outputs = 5 * k, 5 * channels * 3 * (y + 1) * tiles, 20
    assert walked.latency == weights + seen + outputs + tiles * folds * cycles


def test_groups_one_by_one_and_several_in_a_tile() -> None:
    machine = array(rows=8, overlap=False)
    # five tiles of one fold: 4 + 2 x 8 + 3 - 2 = 21 cycles; loads 4 + 9, stores 4
    single = walk(DEPTHWISE, machine, cuts(2, 1, 1), "ykc")
    assert single.latency == 13 + 21 + 3 * 21 + 21 + 4
    assert single.needs == {"weight": 2 * 4 * 8, "input": 2 * 9 * 8, "output": 2 * 4 * 32}
    # three groups and two: two folds and one; loads 12 + 27 and 8 + 18, stores 12 and 8
    several = walk(DEPTHWISE, machine, cuts(2, 3, 1, grouped=True), "ykc")
    assert several.latency == 39 + max(42, 12) + max(21, 26) + 8
    assert several.needs == {"weight": 2 * 12 * 8, "input": 2 * 27 * 8, "output": 2 * 12 * 32}
    assert single.accesses == several.accesses  # each group counts its own
    assert several.accesses["input", "I", "read"] == 5 * 4 * 4 * 8
    assert several.accesses["output", "O", "write"] == 20 * 32
    taps = walk(DEPTHWISE, replace(machine, im2col=False), cuts(2, 3, 1, grouped=True), "ykc")
    assert taps.accesses["output", "O", "write"] == 4 * 20 * 32  # a fold for each tap
    assert taps.accesses["output", "O", "read"] == (3 + 1) * 20 * 32


def test_inputs_change_with_the_loop_over_groups() -> None:
    # rows 1 + 1 (2 stored rows each), groups 3 + 2
    for order, weights in (("yck", 2 * 20), ("kcy", 20)):
        walked = walk(DEPTHWISE, array(rows=8), cuts(1, 3, 1, grouped=True), order)
        assert walked.accesses["dram", "W", "read"] == weights * 8
        assert walked.accesses["dram", "I", "read"] == 5 * (6 + 6) * 8


def test_transfers_are_whole_bursts() -> None:
    walked = walk(GEMM, array(burst_bytes=8), WHOLE, "ykc")  # 12, 15, 20 bytes: 2, 2, 3 bursts
    assert walked.latency == (16 + 16) + 25 + 24
    assert walked.dram_bits == (16 + 16 + 24) * 8
    assert walked.accesses["weight", "W", "write"] == 12 * 8
    assert walked.accesses["input", "I", "write"] == 15 * 8
    # 28 bits a clock: W and I arrive together, in ceil(216 / 28) = 8 clocks and not in 4 + 5
    assert walk(GEMM, array(bandwidth_gb_s=3.5), WHOLE, "ykc").latency == 8 + 25 + 6


def test_kept_maps_move_no_dram() -> None:
    machine = array()
    reader = walk(GEMM, machine, cuts(3, 4, 3), "kcy", in_kept=True)
    assert reader.latency == 12 + max(17, 12) + 13 + 8  # W, then nothing
    assert reader.needs == {"weight": 96, "input": 120, "output": 2 * 12 * 32}
    assert ("input", "I", "write") not in reader.accesses
    assert reader.accesses["input", "I", "read"] == 30 * 8
    writer = walk(GEMM, machine, cuts(3, 4, 3), "kcy", out_kept=True)
    assert writer.latency == (12 + 9) + 17 + max(13, 6)
    assert writer.needs == {"weight": 96, "input": 2 * 9 * 8 + 160, "output": 2 * 12 * 32}
    assert writer.accesses["output", "O", "read"] == (20 + 20) * 32
    assert writer.accesses["input", "O", "write"] == 20 * 8
    both = walk(GEMM, machine, cuts(3, 4, 2), "cky", in_kept=True, out_kept=True)
    assert both.needs["input"] == 120 + 160
    # partial sums are not the map: they still leave, and come back
    assert both.latency == 8 + max(11, 48) + max(9, 32) + max(11, 4 + 48) + max(9, 32)
    assert both.dram_bits == (12 + 80 + 80) * 8


def test_what_is_a_product() -> None:
    batch = product_of(Layer("m", "matmul", B=2, G=3, K=4, C=5, OX=6, IX=6))
    assert (batch.B, batch.G, batch.OY, batch.OX, batch.IY, batch.IX) == (1, 6, 6, 1, 6, 1)
    spread = Layer(
        "t", "conv_transpose2d", B=2, G=2, K=3, C=2, OY=11, OX=11, FY=3, FX=3, IY=5, IX=5, stride=(2, 2), padding=(1, 1)
    )
    rows = product_of(spread)
    assert (rows.B, rows.G, rows.OY, rows.K, rows.C, rows.FY, rows.padding) == (1, 2, 50, 27, 2, 1, (0, 0))
    walked = walk(spread, array(), cuts(20, 9, 1), "ykc")
    assert walked.accesses["register", "W", "read"] == spread.macs * 8
    assert walked.accesses["dram", "O", "write"] == 2 * 50 * 27 * 8


def test_tilings_cut_evenly_in_units_of_the_array() -> None:
    layer = replace(DEPTHWISE, K=7, C=5)
    found = list(legal_tilings(layer, array(im2col=False)))  # K in units of 3, C in units of 2
    single = {(t["k"], t["c"]) for t, _ in found if not t["grouped"]}
    assert single == {(k, c) for k in (7, 6, 3) for c in (5, 4, 2)}
    groups = {(t["y"], t["k"], t["c"]) for t, _ in found if t["grouped"]}
    assert groups == {(y, k, 5) for y in (2, 1) for k in (5, 3, 2, 1)}
    assert len(found) == 6 * (2 * 9 + 2 * 4)
    still = {(t["k"], t["c"]) for t, _ in legal_tilings(replace(layer, G=1), array(dataflow="is", rows=8))}
    assert still == {(k, c) for k in (7, 4, 3, 2, 1) for c in (5, 3, 2, 1)}
    for order in ("ykc", "cky"):
        assert (cuts(1, 5, 5, grouped=True), order) in found


def test_the_best_that_fits() -> None:
    # a bit a clock, two rows of one element: whole 24 + 7 + 16, row by row 16 + 8 + 8 + 8
    pair = Layer("pair", "linear", B=2)
    slow = array(bandwidth_gb_s=0.125)
    assert walk(pair, slow, cuts(2, 1, 1), "ykc").latency == 47
    assert best(pair, slow) == (40, 40, cuts(1, 1, 1), "ykc", "")
    # W of 3 channels out and one in, twice: 48 bits; of anything larger, more
    tight = array(weight_kib=48 / 8192)
    found = best(GEMM, tight)
    assert found is not None
    assert (found.tiling["k"], found.tiling["c"]) == (3, 1)
    assert best(GEMM, array(weight_kib=47 / 8192)) is None
    assert best(GEMM, tight, in_kept=True, out_kept=True)[:1] < found[:1]  # type: ignore[index]
    one = array(shared_kib=856 / 8192, input_kib=0.0, weight_kib=0.0, output_kib=0.0)  # 96 + 120 + 640
    needs = walk(GEMM, one, WHOLE, "ykc").needs
    assert fits(needs, one)
    assert not fits(needs, replace(one, shared_kib=855 / 8192))


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize(
    "layer",
    [
        replace(HALO, B=2, C=3, OY=3, IY=5),
        replace(DEPTHWISE, G=3, K=2, C=3),
        Layer("m", "matmul", B=2, K=4, C=3, OX=5, IX=5),
    ],
    ids=["conv", "groups", "matmul"],
)
def test_every_tiling_does_the_work_once(layer: Layer, dataflow: str) -> None:
    machine = array(dataflow=dataflow, im2col=layer.op == "conv2d", bandwidth_gb_s=2.0)
    p = product_of(layer)
    stays, width = {"ws": ("W", 8), "os": ("O", 32), "is": ("I", 8)}[dataflow]
    by_innermost = defaultdict(set)
    for tiling, order in legal_tilings(layer, machine):
        walked = walk(layer, machine, tiling, order)
        assert walked.accesses["register", stays, "read"] == layer.macs * width
        spilled = walked.accesses["dram", "O", "read"]
        assert walked.accesses["dram", "O", "write"] == layer.outputs * 8 + spilled
        assert walked.accesses["dram", "W", "read"] >= layer.weights * 8
        several = {"y": tiling["y"] < p.B * p.OY, "k": (p.G if tiling["grouped"] else p.K) > tiling["k"]}
        several["c"] = tiling["c"] < p.C
        turning = [loop for loop in order if several[loop]][-1:]
        by_innermost[(*tiling.values(), *turning)].add((walked.latency, frozenset(walked.accesses.items())))
    assert all(len(same) == 1 for same in by_innermost.values())  # the two outer loops can be exchanged
