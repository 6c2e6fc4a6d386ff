"""Technology tables: exact on their points, monotone between them, and the formulas by hand."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from codesign_kernel.accelerator import technology
from codesign_kernel.accelerator.technology import dram_pj_per_bit, lane, pe, pe_area_um2, sram, table
from codesign_kernel.accelerator.types import NODE_NM
from codesign_kernel.errors import InvalidInputError

KIB = 8 * 1024
ROOT = Path(__file__).parent.parent
FINE_NODES = np.linspace(7, 45, 77).tolist()
REFERENCE = Path(os.environ.get("CODESIGN_REFERENCE_DIR", Path(__file__).parents[2] / "shared" / "reference"))

needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"no reference data at {REFERENCE}; set CODESIGN_REFERENCE_DIR"
)


def macro_rows():
    for width, nodes in table("sram")["macros"].items():
        for node, rows in nodes.items():
            for row in rows:
                yield int(width), float(node), row


def test_a_memory_of_one_macro_is_its_row_of_the_table():
    rows = list(macro_rows())
    assert len(rows) == 6 * 10 + 3 * 10
    for width, node, (kib, read_pj, write_pj, area_mm2, leak_mw) in rows:
        got = sram(kib * KIB, width, node)
        assert got == (read_pj / width, write_pj / width, area_mm2 * 1e6, leak_mw)


def test_wide_words_are_macros_side_by_side_each_with_its_share():
    one, four = sram(8 * KIB, 128, 28), sram(32 * KIB, 512, 28)
    assert four.read_pj_per_bit == pytest.approx(one.read_pj_per_bit)
    assert four.area_um2 == pytest.approx(4 * one.area_um2)
    assert four.leak_mw == pytest.approx(4 * one.leak_mw)
    # 96 bits are two 64-bit macros of 8 KiB, and the 32 columns left over are paid for
    assert sram(16 * KIB, 96, 28).read_pj_per_bit == pytest.approx(2 * 2.7021 / 96)
    # 192 bits are no multiple of 128: three macros of 64 bits
    assert sram(24 * KIB, 192, 28).area_um2 == pytest.approx(3 * 10478)


def test_a_narrow_word_pays_for_the_whole_macro():
    assert sram(8 * KIB, 16, 28).read_pj_per_bit == pytest.approx(4 * sram(8 * KIB, 64, 28).read_pj_per_bit)


def test_below_the_table_the_smallest_macro_is_charged():
    tiny, smallest = sram(KIB // 4, 64, 22), sram(2 * KIB, 64, 22)
    assert tiny == smallest
    # 1024 bits wide and 4 KiB in all: eight macros, 0.5 KiB each, charged as eight of 2 KiB
    assert sram(4 * KIB, 1024, 22).area_um2 == pytest.approx(8 * 1981)


def test_above_the_table_banks_are_added_and_one_is_active():
    largest, thrice = sram(4096 * KIB, 64, 28), sram(3 * 4096 * KIB, 64, 28)
    assert thrice.read_pj_per_bit == largest.read_pj_per_bit
    assert thrice.area_um2 == pytest.approx(3 * largest.area_um2)
    assert thrice.leak_mw == pytest.approx(3 * largest.leak_mw)


@pytest.mark.parametrize("word_bit", [16, 64, 96, 128, 512, 2048])
@pytest.mark.parametrize("node", [45, 36.5, 28, 22, 10])
def test_energy_area_and_leakage_never_fall_as_capacity_grows(word_bit, node):
    sizes = [round(KIB * 2 ** (k / 3)) for k in range(48)]
    figures = np.array([sram(size, word_bit, node) for size in sizes])
    assert (figures[1:] >= figures[:-1] * (1 - 1e-12)).all()
    assert figures[-1, 2] > 1000 * figures[0, 2] / word_bit


@pytest.mark.parametrize("word_bit", [64, 128])
@pytest.mark.parametrize("kib", [1, 3, 8, 100, 4096, 10000])
def test_energy_and_area_never_rise_as_the_node_shrinks(word_bit, kib):
    figures = np.array([sram(kib * KIB, word_bit, node)[:3] for node in FINE_NODES])
    assert (figures[1:] >= figures[:-1] * (1 - 1e-12)).all()
    assert (figures[-1] > 3 * figures[0]).all()


def test_between_two_points_lies_their_straight_line_on_log_axes():
    # half way in the logarithm between 8 and 32 KiB: the geometric mean of both
    middle = sram(16 * KIB, 64, 28).read_pj_per_bit * 64
    assert 2.7021 < middle < 6.4688
    assert middle == pytest.approx(math.sqrt(2.7021 * 6.4688))
    node = math.sqrt(22 * 28)
    assert sram(8 * KIB, 64, node).area_um2 == pytest.approx(math.sqrt(6265 * 10478))


def test_wide_macros_below_22_nm_follow_the_scaling_of_the_narrow_ones():
    for node in (16, 7):
        got = sram(64 * KIB, 128, node)
        assert got.read_pj_per_bit * 128 == pytest.approx(8.9659 * math.sqrt(node / 22), rel=1e-3)
        assert got.area_um2 == pytest.approx(54281 * node / 22, rel=1e-3)


def test_mac_energy_by_hand():
    at45 = pe(8, 32, 45)
    assert at45.mac_pj_low == pytest.approx(0.2 + 0.1)  # Horowitz
    assert at45.mac_pj_high == pytest.approx(0.91199 + 0.24166)  # Aladdin
    assert at45.mac_pj == pytest.approx(math.sqrt(0.3 * 1.15365))
    int4 = pe(4, 32, 45)
    assert int4.mac_pj_low == pytest.approx(0.2 / 4 + 0.1)
    assert int4.mac_pj_high == pytest.approx(0.91199 / 4 + 0.24166)
    assert pe(16, 48, 45).mac_pj_high == pytest.approx(3.64797 + 0.24166 * 1.5, rel=1e-4)
    at28 = pe(8, 32, 28)
    assert at28.mac_pj_high == pytest.approx(0.46808 + 0.12403)
    assert at28.mac_pj_low == pytest.approx(0.3 * 0.59211 / 1.15366)


def test_register_energy_and_leakage_by_hand():
    assert pe(8, 32, 45).register_pj == pytest.approx(0.33142 * 40 / 32)
    assert pe(8, 32, 22).register_pj == pytest.approx(0.09747 * 40 / 32)
    assert pe(8, 32, 28).leak_uw == pytest.approx(2.95317 + 1.41752)


def test_horowitz_rules_against_the_figures_that_they_were_not_made_from():
    energy = table("arithmetic")["horowitz_45nm"]["energy_pj"]
    assert energy["int8_mult"] * (32 / 8) ** 2 == pytest.approx(energy["int32_mult"], rel=0.04)
    assert energy["int32_add"] * 8 / 32 == pytest.approx(energy["int8_add"], rel=0.17)


def test_pe_area_is_that_of_nangate45():
    for widths in ((2, 8), (4, 32), (8, 32), (16, 48), (32, 64)):
        assert pe(*widths, 45).area_um2 == pe_area_um2(*widths) == pe_area_um2(*widths, library="nangate45")


@pytest.mark.parametrize("library", table("pe")["libraries"])
def test_pe_areas_come_back_within_the_stated_residual(library):
    data = table("pe")["libraries"][library]
    assert data["residual"] <= 0.0215
    assert data["leave_one_out"] <= 0.04
    for data_bits, acc_bits, um2 in data["rows"]:
        assert pe_area_um2(data_bits, acc_bits, library) == pytest.approx(um2, rel=data["residual"] + 1e-4)


def test_pe_area_by_hand():
    fitted = table("pe")["libraries"]["osu018"]
    register_bit, adder = fitted["register_bit_um2"], fitted["adder_um2"]
    assert pe_area_um2(8, 24, "osu018") == pytest.approx(40 * register_bit + (56 + 12) * adder)
    # 16 bit of product, of which 12 are kept: 10 cells fewer
    assert pe_area_um2(8, 12, "osu018") == pytest.approx(28 * register_bit + (56 + 6 - 10) * adder)


@pytest.mark.parametrize(
    ("widths", "synthesised"),
    [((4, 20), 11610), ((6, 24), 18705), ((8, 24), 25941), ((12, 40), 49981), ((16, 40), 83456)],
)
def test_pe_area_of_widths_that_were_not_fitted(widths, synthesised):
    """Synthesised with ``benchmarks/pe_area.py --liberty osu018_stdcells.lib --library osu018``."""
    assert pe_area_um2(*widths, library="osu018") == pytest.approx(synthesised, rel=0.07)


@pytest.mark.parametrize("library", table("pe")["libraries"])
def test_pe_area_grows_with_either_width(library):
    areas = {
        (data, acc): pe_area_um2(data, acc, library) for data in range(2, 33) for acc in range(8, 65) if acc >= data
    }
    assert min(areas.values()) > 0
    for (data, acc), um2 in areas.items():
        assert areas.get((data + 1, acc), math.inf) > um2
        assert areas.get((data, acc + 1), math.inf) > um2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 32, "tsmc7"), "one of nangate45, asap7, sky130hd, ihp130, osu018, but got 'tsmc7'"),
        ((8, 32, None), "but got None"),
        ((8, 32, ["asap7"]), "choose one of these, or fit another with benchmarks/pe_area.py --liberty"),
        ((1, 32), "data_bits is an integer of 2 to 32, but got 1"),
        ((33, 64), "data_bits is an integer of 2 to 32, but got 33"),
        ((8.0, 32), "data_bits is an integer"),
        ((True, 32), "data_bits is an integer"),
        ((8, 65), "acc_bits is an integer of 8 to 64, but got 65"),
        ((16, 12), "acc_bits is an integer of 16 to 64, but got 12"),
        ((2, 4), "acc_bits is an integer of 8 to 64, but got 4"),
    ],
)
def test_pe_areas_that_are_not_there(arguments, message):
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        pe_area_um2(*arguments)


def test_pe_area_is_fitted_again_by_its_script():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "pe_area.py")],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the stored fit is repeated" in done.stdout


def test_pe_area_scales_with_aladdins_mac():
    assert pe(8, 32, 28).area_um2 == pytest.approx(pe_area_um2(8, 32) * 369.278 / 986.356, rel=1e-6)


def test_pe_area_band_by_hand():
    got = pe(8, 32, 45)
    registers = (8 + 8 + 32) / 32 * 279.68
    assert got.area_low_um2 == pytest.approx(min(pe_area_um2(8, 32) * 993 / 1274, 282 + 137 + registers), rel=1e-6)
    assert got.area_high_um2 == pytest.approx(max(992.978 * 1274 / 993, 580.048 + 406.308 + registers), rel=1e-6)


@pytest.mark.parametrize("data_bits", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("acc_bits", [32, 48, 64])
def test_bands_hold_the_nominal_value(data_bits, acc_bits):
    for node in FINE_NODES:
        one, other = pe(data_bits, acc_bits, node), lane(data_bits, acc_bits, node)
        assert one.mac_pj_low < one.mac_pj < one.mac_pj_high
        assert one.area_low_um2 < one.area_um2 < one.area_high_um2
        assert other.energy_pj_low < other.energy_pj < other.energy_pj_high
        assert other.area_low_um2 < other.area_um2 < other.area_high_um2


@pytest.mark.parametrize("part", [pe, lane])
def test_parts_never_grow_as_the_node_shrinks_nor_shrink_as_they_widen(part):
    over_nodes = np.array([part(8, 32, node) for node in FINE_NODES])
    assert (np.diff(over_nodes, axis=0) > 0).all()
    over_widths = np.array([part(bits, 32, 28) for bits in range(2, 33)])
    assert (np.diff(over_widths, axis=0) >= 0).all()
    over_sums = np.array([part(8, bits, 28) for bits in range(8, 65)])
    assert (np.diff(over_sums, axis=0) > 0).all()


def test_lane_by_hand():
    at45 = lane(8, 32, 45)
    register_pj, register_um2 = 0.33142 / 32, 279.68 / 32
    clocked = 32 + 49 + 8
    low = 0.2 * 32 * 16 / 64 + 0.1 * (32 + 49) / 32 + clocked * register_pj
    high = 0.91199 * 32 * 16 / 64 + 0.24166 * (32 + 49) / 32 + clocked * register_pj
    assert at45.energy_pj_low == pytest.approx(low)
    assert at45.energy_pj_high == pytest.approx(high)
    assert at45.energy_pj == pytest.approx(math.sqrt(low * high))
    held = 32 + technology.MULTIPLIER_BITS + technology.SHIFT_BITS
    storage = (clocked + held) * register_um2
    assert at45.area_low_um2 == pytest.approx(282 * 8 + 137 * 81 / 32 + storage)
    assert at45.area_high_um2 == pytest.approx(580.048 * 8 + 406.308 * 81 / 32 + storage)
    assert at45.area_um2 == pytest.approx(math.sqrt(at45.area_low_um2 * at45.area_high_um2))


def test_dram_and_its_sources():
    assert dram_pj_per_bit() == dram_pj_per_bit("LPDDR4") == 8
    assert [dram_pj_per_bit(kind) for kind in ("DDR3", "HBM2", "HBM3")] == [70, 6.25, 4.05]
    with pytest.raises(InvalidInputError, match="LPDDR4, DDR3, HBM2, HBM3, but got 'SDRAM'"):
        dram_pj_per_bit("SDRAM")


@pytest.mark.parametrize("node", [6.99, 45.01, 65, 0, -7, math.nan, math.inf, "28", None, True])
def test_a_node_outside_the_tables_is_refused(node):
    for call in (lambda: sram(8 * KIB, 64, node), lambda: pe(8, 32, node), lambda: lane(8, 32, node)):
        with pytest.raises(InvalidInputError, match="the technology tables cover 7 to 45 nm, but node_nm is"):
            call()


def test_widths_out_of_range_are_refused():
    with pytest.raises(InvalidInputError, match="data_bits is an integer of 2 to 32, but got 1;"):
        pe(1, 32, 28)
    with pytest.raises(InvalidInputError, match="acc_bits is an integer of 16 to 64, but got 8;"):
        lane(16, 8, 28)
    with pytest.raises(InvalidInputError, match=r"data_bits is an integer of 2 to 32, but got 8\.5"):
        pe(8.5, 32, 28)
    with pytest.raises(InvalidInputError, match=r"word_bit is an integer of 1 to \d+, but got 0"):
        sram(8 * KIB, 0, 28)
    with pytest.raises(InvalidInputError, match=r"capacity_bit is an integer of 64 to \d+, but got 63"):
        sram(63, 64, 28)


def test_numpy_scalars_give_the_same_plain_floats():
    sram.cache_clear()
    got = sram(np.int64(20 * KIB), np.int64(96), np.float64(30.0))
    assert all(type(value) is float for value in got)
    sram.cache_clear()
    assert sram(20 * KIB, 96, 30.0) == got
    pe.cache_clear()
    assert all(type(value) is float for value in pe(np.int64(8), np.int64(32), np.float64(30.0)))


def test_every_table_carries_its_source_and_the_nodes_that_types_promise():
    assert "CACTI 7" in table("sram")["source"]
    assert "yosys" in table("pe")["source"]
    assert "Shao" in table("arithmetic")["aladdin"]["source"]
    assert "Horowitz" in table("arithmetic")["horowitz_45nm"]["source"]
    assert all("hwcomponents" in entry["source"] for entry in table("dram")["pj_per_bit"].values())
    for nodes in (table("sram")["macros"]["64"], table("arithmetic")["aladdin"]["nodes"]):
        assert (min(map(float, nodes)), max(map(float, nodes))) == NODE_NM


@needs_reference
def test_the_tables_are_the_reference():
    cacti = json.loads((REFERENCE / "sram_cacti.json").read_text())["rows"]
    columns = ("size_KB", "read_pJ", "write_pJ", "area_mm2", "leak_mW")
    ours = {(width, node, *row) for width, node, row in macro_rows()}
    wanted = {(r["width_bits"], float(r["tech_nm"]), *(r[c] for c in columns)) for r in cacti if r["tech_nm"] <= 45}
    assert ours == wanted
    arithmetic = json.loads((REFERENCE / "arithmetic.json").read_text())
    nodes = table("arithmetic")["aladdin"]["nodes"]
    assert sum(map(len, nodes.values())) == len(arithmetic["rows"])
    for row in arithmetic["rows"]:
        assert nodes[str(row["tech_nm"])][row["component"]] == [row["energy_pJ"], row["area_um2"], row["leak_uW"]]
    synthesis = json.loads((REFERENCE / "pe_synthesis.json").read_text())["rows"]
    ours = {
        (name, *row)
        for name, library in table("pe")["libraries"].items()
        for row in (*library["rows"], *library.get("left_out", ()))
    }
    assert ours == {(r["library"], r["data_bits"], r["acc_bits"], r["area_um2"]) for r in synthesis}
    assert {kind: dram_pj_per_bit(kind) for kind in arithmetic["dram_pJ_per_bit"]} == arithmetic["dram_pJ_per_bit"]
