"""Control: the fit's points come back, it grows with the array, and the RTL has the flip-flops that it counts."""

from __future__ import annotations

import importlib.util
import re
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from myhdl._always_comb import _AlwaysComb
from myhdl._block import _Block

import codesign_kernel as ck
from codesign_kernel.accelerator import technology
from codesign_kernel.accelerator.control import Control, control
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.rtl.core import Ports
from codesign_kernel.rtl.core_os import core_of

DATA = technology.table("control")
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("kind", ["fitted", "held out"])
def test_the_synthesised_shapes_come_back_within_the_stated_residual(kind):
    assert len(DATA["rows"][kind]) >= 3
    for rows, cols, bits, area, flip_flops, _ in DATA["rows"][kind]:
        got = control(rows, cols, bits, 45.0)
        # the residual is written down with four digits
        assert abs(got.area_um2 / area - 1) <= DATA["residual"][kind] + 1e-4 <= 0.06
        assert got.area_low_um2 < area < got.area_high_um2
        # the bank of a result, with more rows than columns, and two bits for the beats of a word are left out
        assert abs(got.flip_flops - flip_flops) <= 8 + 2


def test_one_machine_by_hand():
    got = control(16, 16, 8, 45.0)
    fitted = DATA["coefficients_um2"]
    assert got.area_um2 == pytest.approx(fitted["constant"] + 512 * 4.522 + 128 * fitted["word_bit"])
    assert got.area_high_um2 / got.area_um2 == pytest.approx(1274 / 993)
    assert got.area_um2 / got.area_low_um2 == pytest.approx(1274 / 993)
    # the constant part, a word of sums, a word on its way out; a register of Aladdin's set is 0.33142 pJ for 32 bits
    assert got.clock_pj == pytest.approx((DATA["clocked"]["constant"] + 512 + 128) * 0.33142 / 32)
    assert got.flip_flops == DATA["flip_flops"]["constant"] + 512 + 2 * 128
    # what is no flip-flop leaks as 986.356 um2 of an int8 MAC do: 8.51576 uW
    assert got.leak_uw == pytest.approx((got.area_um2 - got.flip_flops * 4.522) / 986.356 * 8.51576)


def test_it_is_below_ten_elements_in_a_small_array_and_a_small_part_of_a_large_one():
    small, large = control(4, 4, 8, 45.0), control(64, 64, 8, 45.0)
    element = technology.pe(8, 32, 45.0).area_um2
    assert 5 * element < small.area_um2 < 10 * element
    assert large.area_um2 < 0.01 * 64 * 64 * element


@pytest.mark.parametrize("node", [7.0, 28.0, 45.0])
def test_it_grows_with_columns_and_widths_and_with_rows_beyond_the_columns(node):
    sizes = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256)
    lines = [[control(rows, cols, 8, node) for cols in sizes] for rows in (1, 8, 256)]
    lines += [[control(rows, cols, 8, node) for rows in sizes if rows >= cols] for cols in (1, 8, 64)]
    lines += [[control(rows, cols, bits, node) for bits in (2, 4, 8, 16, 32)] for rows, cols in ((8, 8), (2, 16))]
    for line in lines:
        for one, more in pairwise(line):
            # a bit of sums is a flip-flop, and those do not leak; sums are rounded
            assert np.all(np.array(one) <= np.array(more) * (1 + 1e-12))
            assert one.area_um2 < more.area_um2
            assert one.clock_pj < more.clock_pj


def test_a_row_more_saves_less_in_the_multiplexers_of_the_banks_than_its_elements_take():
    element = technology.pe(4, 32, 45.0).area_um2
    for cols in (2, 8, 256):
        areas = [control(rows, cols, 4, 45.0).area_um2 + rows * cols * element for rows in range(1, 257)]
        assert all(one < more for one, more in pairwise(areas))


def test_nodes_scale_as_an_element_does():
    base = control(8, 8, 8, 45.0)
    for node in (7, 10, 14, 22, 28, 33.3, 40, 45):
        got = control(8, 8, 8, node)
        element, origin = technology.pe(8, 32, node), technology.pe(8, 32, 45.0)
        assert got.area_um2 / base.area_um2 == pytest.approx(element.area_um2 / origin.area_um2)
        assert got.leak_uw / base.leak_uw == pytest.approx(element.leak_uw / origin.leak_uw)
        assert got.clock_pj / base.clock_pj == pytest.approx(
            technology.register(node).pj / technology.register(45.0).pj
        )
        assert got.flip_flops == base.flip_flops


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 8, 8, 28), "rows of the control is an integer of 1 to 4096, but got 0"),
        ((8, 4097, 8, 28), "cols of the control is an integer of 1 to 4096, but got 4097"),
        ((8, True, 8, 28), "cols of the control"),
        ((8, 8, 1, 28), "data_bits of the control is an integer of 2 to 32"),
        ((8, 8, 8.0, 28), "data_bits of the control"),
        ((8, 8, 8, 65), "node_nm is 65"),
    ],
)
def test_what_is_out_of_range_is_refused(values, message):
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        control(*values)


def test_numbers_of_numpy_are_numbers():
    assert control(np.int64(4), np.int32(4), np.int64(8), np.float64(28.0)) == control(4, 4, 8, 28.0)
    assert isinstance(control(4, 4, 8, 28.0), Control)


@pytest.fixture(scope="module")
def synthesis() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthesis", ROOT / "benchmarks" / "synthesis.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthesis"] = module
    spec.loader.exec_module(module)
    return module


def register_bits(synthesis: ModuleType, accelerator: ck.Accelerator, wanted: tuple[str, ...]) -> int:
    """Bits of the registers that the clocked processes of these parts of the MyHDL model write."""
    written = {}

    def walk(block: _Block, blocks: tuple[str, ...]) -> None:
        for part in block.subs:
            if isinstance(part, _Block):
                walk(part, (*blocks, part.func.__name__))
            elif not isinstance(part, _AlwaysComb):
                process = "0_".join((*blocks[-1:], part.func.__name__))
                if synthesis.part_of(blocks, process) in wanted:
                    for name in part.outputs:
                        value = part.symdict[name]
                        signals = value if isinstance(value, list) else [value]
                        written.update({id(signal): len(signal) for signal in signals})

    walk(core_of(accelerator)(**Ports(accelerator).as_dict(), accelerator=accelerator), ())
    return sum(written.values())


#: Synthesis removes bits that are always zero: high ones of banks, of beats, and of fields that only one array needs.
SPARE = 0.06


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cols"), [(4, 4), (2, 8)])
def test_the_rtl_still_has_the_registers_that_the_fit_counts(synthesis, rows, cols):
    """Where this fails, the sequencer or the paths have changed: run ``benchmarks/synthesis.py --write``."""
    # the depths of the memories do not reach these registers
    small = {f"{memory}_kib": 0.5 for memory in ("activation", "weight", "accumulator", "instruction")}
    found = register_bits(synthesis, ck.Accelerator.systolic(rows, cols, **small), ("control", "path"))
    clocked = DATA["clocked"]
    word = max(rows, cols) * 8
    counted = clocked["constant"] + cols * 32 + word + clocked["banked"] * (cols > rows)
    # gather's register, which holds, is one more word
    assert counted + word == pytest.approx(found, rel=SPARE)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cols"), [(4, 2), (2, 4)])
def test_an_array_that_holds_its_sums_has_as_many(synthesis, rows, cols):
    """But for the positions that go round and the bits that wait for their sums, which are counted with the array."""
    small = {f"{memory}_kib": 0.5 for memory in ("activation", "weight", "instruction")}
    found = register_bits(synthesis, ck.Accelerator.systolic(rows, cols, "os", **small), ("control", "path"))
    clocked = DATA["clocked"]
    word = max(rows, cols) * 8
    # the instruction's address holds while it runs
    counted = clocked["constant"] + 18 + 2 * word + clocked["banked"] * (cols > rows)
    assert counted + rows * 45 + 3 * (rows + cols + 3) + 4 == pytest.approx(found, rel=SPARE)
