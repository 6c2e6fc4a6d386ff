"""Held operands on the slow road, worked out on paper from docs/mapping.md.

As in test_nestwalk.py: 2 x 3 PEs, a burst is one byte, and DRAM delivers one byte in a clock.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from nestwalk import best, walk
from spatialcases import DEPTHWISE, GEMM, HALO, array, cuts

from codesign_kernel.workload import Layer


@pytest.mark.parametrize(
    ("order", "held", "loads", "stores", "needs"),
    [
        # rows 3 + 2, channels out 3 + 1: W 9 and 3 elements, I 9 and 6, O 9, 6, 3 and 2
        ("ykc", "", (9 + 9, 3, 9 + 6, 3), (9, 3, 6, 2), {"weight": 2 * 72, "input": 2 * 72, "output": 2 * 288}),
        ("ykc", "W", (9 + 9, 3, 6, 0), (9, 3, 6, 2), {"weight": 96, "input": 2 * 72, "output": 2 * 288}),
        ("kcy", "", (9 + 9, 6, 9 + 3, 6), (9, 6, 3, 2), {"weight": 2 * 72, "input": 2 * 72, "output": 2 * 288}),
        ("kcy", "I", (9 + 9, 6, 3, 0), (9, 6, 3, 2), {"weight": 2 * 72, "input": 120, "output": 2 * 288}),
    ],
)
def test_what_is_held_is_loaded_once(
    order: str, held: str, loads: tuple[int, ...], stores: tuple[int, ...], needs: dict[str, int]
) -> None:
    walked = walk(GEMM, array(duplex=True), cuts(3, 3, 3), order, held=held)
    computes = (11, 11, 9, 9) if order == "ykc" else (11, 9, 11, 9)  # two folds of 3 or 2 positions
    hidden = zip(computes, (0, *loads[1:]), (*stores[:3], 0), strict=True)
    assert walked.latency == loads[0] + sum(max(each) for each in hidden) + stores[3]
    assert walked.needs == needs
    assert walked.dram_bits == 8 * (sum(loads) + 20)
    assert walked.again == ("" if held else "W" if order == "ykc" else "I")
    # the array does not know where its words come from
    free = walk(GEMM, array(), cuts(3, 3, 3), order)
    assert walked.accesses["weight", "W", "read"] == free.accesses["weight", "W", "read"]
    assert walked.accesses["input", "I", "read"] == free.accesses["input", "I", "read"]


def test_sums_that_are_held_leave_once() -> None:
    # as in test_partial_sums_leave_at_full_precision_and_come_back, but for what leaves early
    walked = walk(GEMM, array(), cuts(3, 4, 2), "cky", held="O")
    assert walked.latency == 14 + 11 + max(9, 4) + max(11, 4 + 3 + 12) + max(9, 2) + 8
    assert ("dram", "O", "read") not in walked.accesses
    assert walked.accesses["dram", "O", "write"] == 20 * 8
    # the array writes 20 sums for each tile of c, and reads 20; then they leave
    assert walked.accesses["output", "O", "write"] == 40 * 32
    assert walked.accesses["output", "O", "read"] == (20 + 20) * 32
    assert walked.needs == {"weight": 2 * 8 * 8, "input": 2 * 6 * 8, "output": 20 * 32}
    # rows 3 + 2 are outermost: channels in move with them, unless W is held too
    both = walk(GEMM, array(), cuts(3, 3, 2), "yck", held="WO")
    assert both.again == ""
    assert both.dram_bits == (12 + 15 + 20) * 8
    kept = walk(GEMM, array(), cuts(3, 4, 2), "cky", out_kept=True, held="O")
    assert kept.dram_bits == (12 + 15) * 8
    assert kept.needs == {"weight": 2 * 8 * 8, "input": 2 * 6 * 8 + 160, "output": 20 * 32}
    assert walk(GEMM, array(), cuts(3, 4, 2), "cky", out_kept=True).again == "O"


def test_a_held_map_is_that_of_all_images() -> None:
    # tiles of 3 rows and 1 see 6 stored rows and 2: one of the 7 is loaded twice
    pair = replace(HALO, B=2)
    walked = walk(pair, array(), cuts(3, 1, 1), "kcy", held="I")
    assert walked.accesses["dram", "I", "read"] == 2 * (6 + 2) * 5 * 8
    assert walked.needs["input"] == 2 * 7 * 5 * 8
    assert walk(pair, array(), cuts(3, 1, 1), "kcy").accesses["dram", "I", "read"] == 2 * 2 * (6 + 2) * 5 * 8
    partial = walk(replace(pair, C=2), array(), cuts(3, 2, 1), "cky", held="O")
    assert partial.needs["output"] == 2 * 12 * 2 * 32


def test_groups_that_follow_one_another_are_held_in_turns() -> None:
    pair = Layer("pair", "matmul", G=2, K=4, C=3, OX=5, IX=5)
    for double, copies in ((True, 2), (False, 1)):
        walked = walk(pair, array(double_buffered=double), cuts(3, 3, 3), "cyk", held="W")
        assert walked.needs == {"weight": copies * 96, "input": copies * 72, "output": copies * 288}
        assert walked.dram_bits == 2 * (12 + 15 + 20) * 8
    assert walked.latency == 2 * (12 + 15 + 2 * (11 + 9) + 20)
    sums = walk(pair, array(dataflow="os"), cuts(3, 4, 2), "cky", held="O")
    assert sums.needs["output"] == 2 * 20 * 32
    # where a tile has whole groups, all of them are held, and I never moves twice
    several = walk(DEPTHWISE, array(rows=8), cuts(1, 3, 1, grouped=True), "yck", held="W")
    assert several.needs["weight"] == 20 * 8
    assert several.accesses["dram", "W", "read"] == 20 * 8
    assert walk(DEPTHWISE, array(rows=8), cuts(1, 3, 1, grouped=True), "yck").again == "W"
    with pytest.raises(ValueError, match="never"):
        walk(DEPTHWISE, array(), cuts(1, 3, 1, grouped=True), "kcy", held="I")
    with pytest.raises(ValueError, match="never"):
        walk(GEMM, array(), cuts(3, 3, 3), "kcy", in_kept=True, held="I")


def test_the_best_holds_what_pays() -> None:
    # 2 x 1 by 1 x 2 on one PE, one element of O at a time, 8 clocks a byte; a tile computes 1 + 1 + 1 + 1 - 2 clocks
    square = Layer("square", "linear", B=2, K=2, C=1)
    narrow = array(rows=1, cols=1, bandwidth_gb_s=0.125, output_kib=64 / 8192)
    # I is loaded for each row, W for each element: loads 16 8 16 8; held, 16 8 8 0
    assert walk(square, narrow, cuts(1, 1, 1), "ykc").latency == 16 + 8 + (8 + 8) + (16 + 8) + 8 + 8
    held = best(square, narrow)
    assert held == (16 + 8 + (8 + 8) + (8 + 8) + 2 + 8, 8 * 8, cuts(1, 1, 1), "ykc", "W")
    single = replace(narrow, double_buffered=False, output_kib=32 / 8192)
    assert best(square, replace(single, weight_kib=15 / 8192, input_kib=15 / 8192))[4] == ""  # type: ignore[index]
    assert best(square, replace(single, weight_kib=15 / 8192))[3:] == ("kyc", "I")  # type: ignore[index]
