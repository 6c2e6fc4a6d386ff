"""The catalogue: every machine builds, agrees with what its maker publishes, and says where each figure comes from."""

from __future__ import annotations

import re
from dataclasses import asdict, fields, replace

import pytest

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.accelerator.catalog import Eyeriss, Nvdla, catalog, names, sources
from codesign_kernel.accelerator.spatial import SpatialArray
from codesign_kernel.accelerator.technology import table
from codesign_kernel.cost.eyeriss import estimate
from codesign_kernel.cost.row_stationary import layer_estimates
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.workload import Layer, Workload

SPATIAL = ("tpu_v1", "gemmini_default", "edge_tpu", "mcu_class")
CONV = Layer("conv", "conv2d", B=4, K=384, C=256, OY=13, OX=13, FY=3, FX=3, IY=13, IX=13, padding=(1, 1))


def test_every_machine_builds() -> None:
    kinds = {name: type(catalog(name)) for name in names()}
    assert len(kinds) == len(names())
    assert {name for name, kind in kinds.items() if kind is SpatialArray} == set(SPATIAL)
    assert [name for name, kind in kinds.items() if kind is Eyeriss] == ["eyeriss_v1"]
    assert [name for name, kind in kinds.items() if kind is Nvdla] == [
        f"nvdla_{macs}" for macs in (2048, 1024, 512, 256, 128, 64, 32)
    ]
    assert {name for name, kind in kinds.items() if kind is Accelerator} == {
        "generator_4x8", "generator_8x8", "generator_16x16",
    }  # fmt: skip


def test_sizes_that_are_published() -> None:
    tpu, gemmini, edge = (catalog(name) for name in SPATIAL[:3])
    assert isinstance(tpu, SpatialArray)
    assert isinstance(gemmini, SpatialArray)
    assert isinstance(edge, SpatialArray)
    assert (tpu.pes, tpu.frequency_mhz, tpu.dataflow, tpu.overlap) == (65536, 700.0, "ws", True)
    assert tpu.input_kib + tpu.output_kib == 28 * 1024  # the 28 MiB of the abstract
    assert tpu.weight_kib == 4 * 64  # four tiles
    assert tpu.output_kib == 4096 * 256 * tpu.acc_bits / 8 / 1024
    assert (gemmini.rows, gemmini.cols, gemmini.acc_bits) == (16, 16, 32)
    assert gemmini.input_kib + gemmini.weight_kib == 256
    assert gemmini.bits_per_cycle == 128  # the bus of the DMA
    assert edge.pes == 64 * 64


@pytest.mark.parametrize("name", SPATIAL)
def test_peak_is_the_published_one(name: str) -> None:
    machine = catalog(name)
    assert isinstance(machine, SpatialArray)
    published = table("machines")["spatial"][name]["peak_tops"]
    # 92 and 4 are rounded: 91.75 and 4.1
    assert 2 * machine.peak_macs_per_s / 1e12 == pytest.approx(published["value"], rel=0.025)
    assert published["source"]


def test_the_ridge_of_the_tpu_is_where_its_paper_has_it() -> None:
    machine = catalog("tpu_v1")
    assert isinstance(machine, SpatialArray)
    assert machine.peak_macs_per_s / (machine.bandwidth_gb_s * 1e9) == pytest.approx(1350, rel=0.005)


@pytest.mark.parametrize("name", names())
def test_every_figure_has_a_source_or_a_reason(name: str) -> None:
    machine = catalog(name)
    expected = {f.name for f in fields(machine)} - {"name", "source"}
    said = sources(name)
    assert set(said) == expected
    assert all(len(text) > 10 for text in said.values() if not text.startswith("as "))


@pytest.mark.parametrize("name", SPATIAL)
def test_figures_and_assumptions_are_apart_and_complete(name: str) -> None:
    entry = table("machines")["spatial"][name]
    assert not set(entry["figures"]) & set(entry["assumed"])
    assert {*entry["figures"], *entry["assumed"]} == {f.name for f in fields(SpatialArray)} - {"name", "source"}
    assert all(set(figure) == {"value", "source"} and figure["source"] for figure in entry["figures"].values())
    assert all(set(figure) == {"value", "reason"} and figure["reason"] for figure in entry["assumed"].values())
    assert entry["caution"]


@pytest.mark.parametrize("name", [*SPATIAL, "eyeriss_v1"])
def test_the_source_is_one_line(name: str) -> None:
    machine = catalog(name)
    assert isinstance(machine, SpatialArray | Eyeriss)
    assert machine.source
    assert "\n" not in machine.source


@pytest.mark.parametrize("ask", [catalog, sources])
def test_an_unknown_name_lists_all(ask: type) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(f"the catalogue has {', '.join(names())}, but got 'tpu_v9'")):
        ask("tpu_v9")


def test_digests_differ() -> None:
    machines = [catalog(name) for name in names()]
    digests = [machine.digest for machine in machines if isinstance(machine, SpatialArray | Accelerator)]
    assert len(digests) == 7
    assert len(set(digests)) == 7


def test_eyeriss_has_the_sizes_of_its_constants() -> None:
    machine = catalog("eyeriss_v1")
    assert isinstance(machine, Eyeriss)
    assert asdict(machine) | {"source": ""} == {
        "rows": 12, "cols": 14, "filter_spad_word": 224, "ifmap_spad_word": 12, "psum_spad_word": 24,
        "buffer_kib": 100.0, "filter_prefetch_kib": 8.0, "word_bits": 16, "frequency_mhz": 200.0, "source": "",
    }  # fmt: skip
    assert machine.source.startswith("Chen, Krishna, Emer, Sze")


def test_row_stationary_estimates_convolutions_only() -> None:
    machine = catalog("eyeriss_v1")
    assert isinstance(machine, Eyeriss)
    relu = Layer("relu", "relu", B=4, K=384, OY=13, OX=13, IY=13, IX=13)
    first, again = layer_estimates(Workload("two", (CONV, relu, replace(CONV, name="again"))), machine)
    assert (first.name, again.name) == ("conv", "again")
    assert first.estimate == again.estimate == estimate(CONV, 4, 0.0, 0.0)
    assert first.estimate.latency_ms > CONV.macs / (168 * 200e3)
    # every operand passes at least once: 16-bit words, the input with its padding
    assert first.estimate.dram_mb >= 2 * (CONV.weights + 4 * 256 * 15 * 15 + 4 * 384 * 13 * 13) / 1e6


def test_row_stationary_refuses_what_it_has_no_estimate_for() -> None:
    machine = catalog("eyeriss_v1")
    assert isinstance(machine, Eyeriss)
    with pytest.raises(InvalidInputError, match="as fabricated"):
        layer_estimates(Workload("one", (CONV,)), replace(machine, rows=16))
    with pytest.raises(InvalidInputError, match="has none"):
        layer_estimates(Workload("none", (Layer("fc", "linear", K=10, C=10),)), machine)
