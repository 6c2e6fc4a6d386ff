"""Estimates beside published machines: NVDLA on ResNet-50, Eyeriss on AlexNet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codesign_kernel.accelerator import catalog
from codesign_kernel.cost import frames_per_second
from codesign_kernel.cost.eyeriss import Mapping, estimate, mappings, pass_cycle, rlc_ratio
from codesign_kernel.cost.nvdla import layer_times
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler import profile, zoo
from codesign_kernel.workload import Layer, Workload


def conv(
    name: str, c: int, k: int, out: int, f: int, size: int, stride: int = 1, pad: int = 0, groups: int = 1
) -> Layer:
    return Layer(
        name, "conv2d", G=groups, K=k // groups, C=c // groups, OY=out, OX=out, FY=f, FX=f, IY=size, IX=size,
        stride=(stride, stride), padding=(pad, pad), weight_bits=16, input_bits=16,
    )  # fmt: skip


ALEXNET = (
    conv("CONV1", 3, 96, 55, 11, 227, 4),
    conv("CONV2", 96, 256, 27, 5, 27, 1, 2, 2),
    conv("CONV3", 256, 384, 13, 3, 13, 1, 1),
    conv("CONV4", 384, 384, 13, 3, 13, 1, 1, 2),
    conv("CONV5", 384, 256, 13, 3, 13, 1, 1, 2),
)


def test_nvdla_on_resnet50(reference: Path) -> None:
    workload = profile(*zoo.build("resnet50")).workload
    rows = json.loads((reference / "published.json").read_text())["nvdla_resnet50"]["rows"]
    assert len(rows) == 3
    for macs, buffer_kib, bandwidth_gb_s, *_, fps, _, _ in rows:
        machine = catalog(f"nvdla_{macs}")
        assert (machine.buffer_kib, machine.bandwidth_gb_s) == (buffer_kib, bandwidth_gb_s)
        assert frames_per_second(workload, machine) == pytest.approx(fps, rel=0.1)


def test_nvdla_by_hand() -> None:
    layer = Layer("conv", "conv2d", K=32, C=16, OY=8, OX=8, IY=8, IX=8)
    (time,) = layer_times(Workload("one", (layer,)), catalog("nvdla_512"))
    assert time.mac_cycle == 8 * 8 * 16 * 32 / 512
    # 1,024 byte in, 512 of weights, 2,048 out at 10 byte a cycle
    assert time.dram_cycle == pytest.approx((1024 + 512 + 2048) / 10)
    assert time.cycle == time.dram_cycle


def test_larger_nvdlas_are_faster() -> None:
    workload = profile(*zoo.build("resnet50")).workload
    fps = [frames_per_second(workload, catalog(f"nvdla_{macs}")) for macs in (32, 64, 128, 256, 512, 1024, 2048)]
    assert fps == sorted(fps)


def test_an_unknown_machine_lists_the_known() -> None:
    with pytest.raises(InvalidInputError, match=r"nvdla_2048, .*nvdla_32, but got 'tpu_v9'"):
        catalog("tpu_v9")


def test_what_nvdla_has_no_place_for_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'layer_norm'"):
        layer_times(Workload("one", (ALEXNET[0], Layer("norm", "layer_norm", K=8))), catalog("nvdla_32"))


def test_eyeriss_on_alexnet(reference: Path) -> None:
    rows = json.loads((reference / "published.json").read_text())["eyeriss_v1_alexnet"]["rows"]
    zeros = [rows[layer.name][5] / 100 for layer in ALEXNET]
    for i, layer in enumerate(ALEXNET):
        # zeros of a layer's result: those that the next layer reads
        found = estimate(layer, 4, zeros[i], zeros[min(i + 1, 4)])
        row = rows[layer.name]
        assert found.latency_ms == pytest.approx(row[2], rel=0.1), layer.name
        assert found.dram_mb == pytest.approx(row[7], rel=0.15), layer.name
        assert found.buffer_mb == pytest.approx(row[6], rel=0.05), layer.name
        assert found.active_pes == row[4], layer.name


def test_every_mapping_fits_the_array() -> None:
    for layer in ALEXNET:
        some = list(mappings(layer, 4))
        assert some
        assert all(layer.FY * m.e * m.r * m.t <= 168 for m in some)
        assert all(m.q * layer.FX <= 12 and m.p * m.q * layer.FX <= 224 for m in some)


def test_a_pass_takes_at_least_its_macs() -> None:
    mapping = Mapping(m=64, n=1, e=13, p=16, q=4, r=1, t=4)
    assert pass_cycle(ALEXNET[2], mapping) >= 13 * 3 * 16 * 4


def test_compression_never_enlarges() -> None:
    assert rlc_ratio(0.0) == 1.0
    assert rlc_ratio(0.75) == pytest.approx(0.25 * 64 / 3 / 16)
