"""Fixed mappings elsewhere: against evaluate, numbers against arrays against tensors, gradients against differences."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from codesign_kernel.accelerator import Accelerator, SpatialArray
from codesign_kernel.cost import Cost, evaluate
from codesign_kernel.cost.relaxed import FIELDS, relaxed_latency, relaxed_layers
from codesign_kernel.cost.relaxed_energy import relaxed_energy
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler import profile, zoo
from codesign_kernel.workload import Layer, Workload

DATAFLOWS = ("ws", "os", "is")
NETWORKS = ("digits", "mobilenet_v2", "gpt2")
#: Tight buffers, so that there are many tiles; and everything the other way round.
TIGHT = SpatialArray(input_kib=2, weight_kib=2, output_kib=2, bandwidth_gb_s=2.0)
SHARED = SpatialArray(
    rows=12, cols=20, shared_kib=200, overlap=False, im2col=False, double_buffered=False, duplex=True, burst_bytes=24,
    bandwidth_gb_s=7.7, register_words=4, input_bits=6, output_bits=9,
)  # fmt: skip


def digits(first: int = 16, second: int = 40) -> Workload:
    """Every kind of unit: convolutions, one of them depthwise, epilogues, pooling, a linear layer."""

    def after(name: str, op: str, k: int, side: int, window: int = 1) -> Layer:
        small = side // window
        settings = {"IY": side, "IX": side, "FY": window, "FX": window, "stride": (window, window)}
        return Layer(name, op, K=k, C=k, OY=small, OX=small, **settings)  # type: ignore[arg-type]

    size: dict[str, Any] = {"FY": 3, "FX": 3, "padding": (1, 1)}
    layers = (
        Layer("a", "conv2d", K=first, C=1, OY=8, OX=8, IY=8, IX=8, **size),
        after("a.relu", "relu", first, 8),
        after("pool", "max_pool2d", first, 8, 2),
        Layer("deep", "conv2d", G=first, OY=4, OX=4, IY=4, IX=4, **size),
        Layer("b", "conv2d", K=second, C=first, OY=4, OX=4, IY=4, IX=4, **size),
        after("b.gelu", "gelu", second, 4),
        Layer("fc", "linear", K=10, C=16 * second),
    )
    return Workload("digits", layers, tuple(pairwise(layer.name for layer in layers)))


def narrow(first: Any, second: Any) -> dict[str, dict[str, Any]]:
    """What :func:`digits` has with other widths."""
    return {
        "a": {"K": first},
        "pool": {"C": first, "K": first},
        "deep": {"G": first},
        "b": {"C": first, "K": second},
        "fc": {"C": 16 * second},
    }


def linear(rows: int = 1, k: int = 256, c: int = 256) -> Workload:
    """One product."""
    return Workload("linear", (Layer("fc", "linear", OY=rows, K=k, C=c),))


@cache
def network(name: str) -> Workload:
    return digits() if name == "digits" else profile(*zoo.build(name), name=name).workload


def tensor(value: Any, **settings: Any) -> torch.Tensor:
    """In float64, with a gradient."""
    return torch.tensor(value, dtype=torch.float64, requires_grad=True, **settings)


def machine_of(machine: SpatialArray, dataflow: str) -> SpatialArray:
    return replace(machine, dataflow=dataflow)


def gradient(workload: Workload, cost: Cost, name: str, value: float) -> float:
    """Of the latency by one field."""
    field = tensor(value)
    relaxed_latency(workload, cost, **{name: field}).backward()
    assert field.grad is not None
    return float(field.grad)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", NETWORKS)
def test_where_nothing_changes_it_is_what_evaluate_said(name: str, dataflow: str) -> None:
    workload = network(name)
    for machine in (SpatialArray(), SHARED):
        cost = evaluate(workload, machine_of(machine, dataflow))
        assert relaxed_layers(workload, cost) == {layer.name: layer.latency_cycle for layer in cost.layers}
        assert relaxed_latency(workload, cost) == cost.latency_cycle
        assert relaxed_energy(workload, cost) == pytest.approx(cost.energy_pj, rel=1e-12)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", ["digits", "mobilenet_v2"])
def test_another_machine_is_that_machine(name: str, dataflow: str) -> None:
    workload, machine = network(name), machine_of(SHARED, dataflow)
    cost = evaluate(workload, machine)
    elsewhere = replace(
        machine, rows=7, cols=9, weight_bits=3, input_bits=5, output_bits=7, acc_bits=21, bandwidth_gb_s=1.3,
        burst_bytes=8, vector_lanes=3, frequency_mhz=333.0,
    )  # fmt: skip
    told = replace(cost, accelerator=elsewhere)
    fields = {name: getattr(machine, name) for name in FIELDS}
    assert relaxed_latency(workload, told) != cost.latency_cycle
    assert relaxed_latency(workload, told, **fields) == cost.latency_cycle


def test_many_bandwidths_are_as_many_evaluations_of_the_same_mappings() -> None:
    workload = digits()
    cost = evaluate(workload, TIGHT, fusion=False)
    assert max(max(layer.mapping.tiles.values()) for layer in cost.layers if layer.mapping) > 4
    texts = {m.name: f"y={m.mapping.y} k={m.mapping.k} c={m.mapping.c} inner={m.mapping.inner}"
             for m in cost.layers if m.mapping}  # fmt: skip
    bandwidths = np.linspace(0.3, 40, 50)
    found = relaxed_layers(workload, cost, bandwidth_gb_s=bandwidths)
    compared = 0
    for at, bandwidth in enumerate(bandwidths.tolist()):
        there = evaluate(workload, replace(TIGHT, bandwidth_gb_s=bandwidth), mapping=texts, fusion=False)
        for layer, same in zip(there.layers, cost.layers, strict=True):
            if layer.mapping == same.mapping:  # the text does not say what is held
                compared += 1
                assert found[layer.name][at] == layer.latency_cycle
    assert compared > 0.9 * 50 * len(cost.layers)
    total = relaxed_latency(workload, cost, bandwidth_gb_s=bandwidths)
    assert total.tolist() == sum(found.values()).tolist()
    assert (np.diff(total) <= 0).all()


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_smaller_array_under_the_same_mapping(dataflow: str) -> None:
    workload, machine = linear(40, 192, 256), machine_of(replace(TIGHT, im2col=True), dataflow)
    (layer,) = (cost := evaluate(workload, machine)).layers
    assert layer.mapping is not None
    text = f"y={layer.mapping.y} k={layer.mapping.k} c={layer.mapping.c} inner={layer.mapping.inner}"
    for rows, cols in ((8, 16), (16, 8), (8, 8), (4, 2)):
        (there,) = evaluate(workload, replace(machine, rows=rows, cols=cols), mapping=text).layers
        assert replace(there.mapping, rows=16, cols=16) == layer.mapping  # type: ignore[type-var]
        assert relaxed_latency(workload, cost, rows=rows, cols=cols) == there.latency_cycle


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("machine", [TIGHT, SHARED], ids=["tight", "shared"])
def test_narrower_layers_are_the_narrower_network(machine: SpatialArray, dataflow: str) -> None:
    wide, widths = digits(), (11, 21)
    cost, small = (evaluate(work, machine_of(machine, dataflow)) for work in (wide, digits(*widths)))
    # the small network's mappings, as if they were the wide one's
    layers = tuple(
        replace(layer, mapping=replace(layer.mapping, nest=same.mapping.nest))
        if layer.mapping and same.mapping
        else layer
        for layer, same in zip(small.layers, cost.layers, strict=True)
    )
    told = replace(small, layers=layers)
    assert relaxed_latency(wide, told, channels=narrow(*widths)) == small.latency_cycle
    assert relaxed_energy(wide, told, channels=narrow(*widths)) == pytest.approx(small.energy_pj, rel=1e-12)
    tensors = relaxed_latency(wide, told, channels=narrow(*(tensor(width) for width in widths)))
    assert tensors.item() == small.latency_cycle
    many = relaxed_latency(wide, told, channels=narrow(np.array([16, 11]), np.array([40, 21])))
    assert many.tolist() == [relaxed_latency(wide, told), small.latency_cycle]


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("machine", [TIGHT, SHARED], ids=["tight", "shared"])
def test_tensors_give_what_arrays_give(machine: SpatialArray, dataflow: str) -> None:
    workload, rng = digits(), np.random.default_rng(0)
    cost = evaluate(workload, machine_of(machine, dataflow))
    arrays: dict[str, Any] = {name: getattr(machine, name) * rng.uniform(0.4, 3, 30) for name in FIELDS}
    widths = rng.integers(1, 60, (2, 30))
    expected = relaxed_latency(workload, cost, channels=narrow(*widths), **arrays)
    tensors = {name: tensor(values) for name, values in arrays.items()}
    wide = [tensor(width) for width in widths]
    found = relaxed_latency(workload, cost, channels=narrow(*wide), **tensors)
    assert found.tolist() == expected.tolist()
    found.sum().backward()
    for value in (*tensors.values(), *wide):
        assert value.grad is not None
        assert torch.isfinite(value.grad).all()
    energies = [relaxed_energy(workload, cost, channels=narrow(*w), bandwidth_gb_s=3) for w in (widths, wide)]
    assert np.allclose(energies[1].tolist(), energies[0], rtol=1e-12)


def test_two_groups_lie_side_by_side_where_they_just_fit() -> None:
    workload = Workload("groups", (Layer("one", "conv2d", G=4, K=4, C=49, OY=3, OX=3, IY=3, IX=3),))
    cost = evaluate(workload, replace(TIGHT, rows=98, cols=8))
    assert 98 * (1 / 49) < 2  # which is how torch divides a number by a tensor
    found = relaxed_latency(workload, cost, channels={"one": {"C": tensor(49.0)}})
    assert found.item() == cost.latency_cycle


def test_numbers_arrays_and_tensors_go_together() -> None:
    workload = digits()
    cost = evaluate(workload, TIGHT)
    rows, bandwidths = np.array([[8], [16], [24]]), [1.0, 2.0, 4.0, 8.0]
    table = relaxed_latency(workload, cost, rows=rows, bandwidth_gb_s=bandwidths)
    mixed = relaxed_latency(workload, cost, rows=torch.tensor(rows), bandwidth_gb_s=np.array(bandwidths))
    assert table.shape == (3, 4)
    assert mixed.dtype == torch.float64
    assert mixed.tolist() == table.tolist()
    assert table[1, 1] == relaxed_latency(workload, cost, bandwidth_gb_s=np.float32(2)) == cost.latency_cycle
    single = relaxed_latency(workload, cost, rows=torch.tensor(8.0), bandwidth_gb_s=4, channels={"a": {"K": 16}})
    assert single.item() == table[0, 2]


@pytest.mark.parametrize("device", ["meta", *(["cuda"] if torch.cuda.is_available() else [])])
def test_everything_stays_on_the_device(device: str) -> None:
    workload = digits()
    cost = evaluate(workload, TIGHT)
    bandwidths, width = np.linspace(0.3, 40, 50), np.linspace(3, 16, 50)
    field, kept = tensor(bandwidths, device=device), tensor(width, device=device)
    found = relaxed_latency(workload, cost, bandwidth_gb_s=field, rows=12, channels={"a": {"K": kept}})
    found.sum().backward()
    assert (found.device.type, found.shape, field.grad is None) == (device, (50,), False)
    if device == "cuda":
        same = relaxed_latency(workload, cost, bandwidth_gb_s=bandwidths, rows=12, channels={"a": {"K": width}})
        assert found.tolist() == same.tolist()


class TestGradients:
    @pytest.mark.parametrize("dataflow", DATAFLOWS)
    def test_of_the_bandwidth_where_transfers_hide_behind_nothing(self, dataflow: str) -> None:
        machine = machine_of(replace(SHARED, vector_lanes=256), dataflow)
        workload = network("mobilenet_v2")
        cost = evaluate(workload, machine)
        cycles = cost.dram_bit / machine.bits_per_cycle  # a / b has the derivative -a / b / b
        found = gradient(workload, cost, "bandwidth_gb_s", machine.bandwidth_gb_s)
        assert found == pytest.approx(-cycles / machine.bandwidth_gb_s, rel=1e-12)

    @pytest.mark.parametrize("dataflow", DATAFLOWS)
    def test_of_the_bandwidth_where_memory_is_the_slowest(self, dataflow: str) -> None:
        workload, bandwidth = linear(1, 512, 512), 0.5
        cost = evaluate(workload, machine_of(replace(TIGHT, bandwidth_gb_s=bandwidth), dataflow))
        found = gradient(workload, cost, "bandwidth_gb_s", bandwidth)
        # of a / x, the slope at x is that of the chord from x / 2 to 2 x; 4, 8 and 16 bits a cycle round nothing
        slow, fast = relaxed_latency(workload, cost, bandwidth_gb_s=[bandwidth / 2, bandwidth * 2])
        assert found < 0
        assert found == pytest.approx((fast - slow) / (1.5 * bandwidth), rel=1e-9)

    @pytest.mark.parametrize("dataflow", DATAFLOWS)
    def test_of_the_bandwidth_where_the_array_is_the_slowest(self, dataflow: str) -> None:
        workload, bandwidth = linear(256), 64.0
        cost = evaluate(workload, machine_of(replace(TIGHT, bandwidth_gb_s=bandwidth), dataflow))
        # the first load and the last store are all that does not hide
        edges = cost.layers[0].load_cycle + cost.layers[0].store_cycle
        assert edges < 0.01 * cost.latency_cycle
        assert edges - 2 <= -gradient(workload, cost, "bandwidth_gb_s", bandwidth) * bandwidth <= edges

    def test_of_the_bandwidth_where_the_vector_unit_is_the_slowest(self) -> None:
        workload = digits()
        cost = evaluate(workload, replace(TIGHT, vector_lanes=1, bandwidth_gb_s=64.0))
        bandwidth, lanes = tensor(64.0), tensor(1.0)
        cycles = relaxed_layers(workload, cost, bandwidth_gb_s=bandwidth, vector_lanes=lanes)["b"]
        cycles.backward()
        assert cycles.item() == 5 * 40 * 16  # gelu
        assert bandwidth.grad == 0
        assert lanes.grad == -cycles.item()

    def test_of_the_clock_in_seconds(self) -> None:
        workload = linear(256)
        cost, clock = evaluate(workload, replace(TIGHT, bandwidth_gb_s=64.0)), tensor(500.0)
        (relaxed_latency(workload, cost, frequency_mhz=clock) / (clock * 1e6)).backward()
        assert clock.grad is not None
        assert clock.grad.item() == pytest.approx(-cost.latency_s / 500, rel=0.01)  # the array is the slowest

    def test_of_channels_in_one_tile(self) -> None:
        workload = linear(32, 64, 64)
        cost = evaluate(workload, SpatialArray(bandwidth_gb_s=4.0), mapping="y=32 k=64 c=64")
        assert cost.layers[0].mapping is not None
        assert set(cost.layers[0].mapping.tiles.values()) == {1}
        k, c = tensor(64.0), tensor(64.0)
        relaxed_latency(workload, cost, channels={"fc": {"K": k, "C": c}}).backward()
        # 64 bits a cycle; a channel has 64 bytes of W and 32 of O or I; 16 channels are 4 folds of 32 cycles
        assert k.grad == c.grad == 64 * 8 / 64 + 32 * 8 / 64 + 4 * 32 / 16

    @pytest.mark.parametrize("dataflow", DATAFLOWS)
    @pytest.mark.parametrize("loop", ["K", "C"])
    def test_of_channels_in_many_tiles_is_the_slope_of_whole_tiles(self, loop: str, dataflow: str) -> None:
        workload = linear(32)
        cost = evaluate(workload, machine_of(TIGHT, dataflow), mapping="k=32 c=32")
        width = tensor(256.0)
        energy = relaxed_energy(workload, cost, channels={"fc": {loop: width}})
        relaxed_latency(workload, cost, channels={"fc": {loop: width}}).backward()
        near, far = (relaxed_latency(workload, cost, channels={"fc": {loop: at}}) for at in (256, 512))
        assert width.grad is not None
        assert width.grad.item() == pytest.approx((far - near) / 256, rel=1e-12)
        (slope,) = torch.autograd.grad(energy, width)
        near, far = (relaxed_energy(workload, cost, channels={"fc": {loop: at}}) for at in (256, 512))
        assert slope.item() == pytest.approx((far - near) / 256, rel=1e-9)

    def test_of_the_array_is_the_slope_of_whole_folds(self) -> None:
        workload = linear(64, 512, 512)
        cost, rows = evaluate(workload, SpatialArray(bandwidth_gb_s=64.0), mapping="k=64 c=64"), tensor(16.0)
        relaxed_latency(workload, cost, rows=rows).backward()
        near, far = (relaxed_latency(workload, cost, rows=at) for at in (8, 32))
        assert rows.grad is not None
        assert rows.grad.item() == pytest.approx((far - near) / 24, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_kib": 3}, "fields of the machine that can be set here are rows, .* but got input_kib"),
        ({"rows": 0}, "rows is a positive number .* but got 0"),
        ({"rows": np.array([1.0, np.inf])}, "rows is a positive number"),
        ({"bandwidth_gb_s": "fast"}, "bandwidth_gb_s is a positive number .* but got 'fast'"),
        ({"channels": {"a.relu": {"K": 3}}}, "fused ones follow.* but got a.relu"),
        ({"channels": {"a": {"OY": 3}}}, "loops of a layer that can be set are C, K, G, but got OY"),
        ({"channels": {"a": 3}}, "channels are like .*, but got 3"),
        ({"channels": {"a": {"K": -1}}}, "K of a is a positive number"),
    ],
)
def test_what_it_refuses(arguments: dict[str, Any], words: str) -> None:
    workload = digits()
    with pytest.raises(InvalidInputError, match=words):
        relaxed_latency(workload, evaluate(workload, TIGHT), **arguments)


def test_the_cost_is_that_of_the_workload() -> None:
    workload = digits()
    cost = evaluate(workload, TIGHT)
    with pytest.raises(InvalidInputError, match="step 0 is a of 'digits' and a of the cost of 'digits', or of another"):
        relaxed_latency(digits(12), cost)
    with pytest.raises(InvalidInputError, match="step 0 is fc of 'linear' and a of"):
        relaxed_latency(linear(), cost)
    with pytest.raises(InvalidInputError, match="but got Workload and SpatialArray"):
        relaxed_latency(workload, TIGHT)  # type: ignore[arg-type]
    generated = evaluate(linear(1, 8, 8), Accelerator.systolic(4, 4, activation_kib=1, weight_kib=1, accumulator_kib=1))
    with pytest.raises(InvalidInputError, match="takes the cost of a SpatialArray"):
        relaxed_latency(linear(1, 8, 8), generated)
    with pytest.raises(InvalidInputError, match="that can be set here are bandwidth_gb_s, burst_bytes, frequency_mhz"):
        relaxed_energy(workload, cost, rows=3)
    layers = tuple(replace(x, mapping=replace(x.mapping, y=5)) if x.mapping else x for x in cost.layers)
    with pytest.raises(InvalidInputError, match="a tile has 8, 4, 3, 2, 1 output rows, but got 5"):
        relaxed_latency(workload, replace(cost, layers=layers))
