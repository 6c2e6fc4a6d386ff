"""Units of work: which operators a spatial array and its vector unit run as one, against counts worked out by hand."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from profiles import Apply, meta
from torch import Tensor, nn

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.mapping import units
from codesign_kernel.mapping.units import Unit, units_of
from codesign_kernel.profiler import profile, zoo
from codesign_kernel.profiler.events import Event, TensorRef
from codesign_kernel.profiler.formulas import Operands
from codesign_kernel.profiler.table import FORMULAS, GEMM
from codesign_kernel.workload import MAC_OPS, Layer, Workload


def conv(name: str, k: int = 4, c: int = 3, side: int = 8, **rest: Any) -> Layer:
    """A 3x3 convolution that keeps the size of its map."""
    return Layer(name, "conv2d", K=k, C=c, OY=side, OX=side, FY=3, FX=3, IY=side, IX=side, padding=(1, 1), **rest)


def after(name: str, op: str, k: int = 4, side: int = 8) -> Layer:
    """An operator without MACs whose result is as large as its operands."""
    return Layer(name, op, K=k, C=k, OY=side, OX=side, IY=side, IX=side)


def chain(*layers: Layer) -> Workload:
    """Each layer reads the one before."""
    return Workload("chain", layers, tuple(pairwise(layer.name for layer in layers)))


def graph(*layers: Layer, edges: str) -> Workload:
    """Edges as "a>b b>c"."""
    return Workload("graph", layers, tuple(tuple(edge.split(">")) for edge in edges.split()))  # type: ignore[misc]


def found(workload: Workload) -> dict[str, Unit]:
    """The units by the name of their operator; every operator has a formula."""
    result, left = units_of(workload)
    assert left == {}
    return {unit.layer.name: unit for unit in result}


def traced(model: nn.Module, *inputs: Tensor) -> dict[str, Unit]:
    """The units of a module."""
    return found(profile(model.to("meta"), inputs).workload)


def only(function: Any, x: Tensor) -> Unit:
    """The one unit of a function."""
    (unit,) = traced(Apply(function), x).values()
    return unit


class TestEpilogue:
    def test_a_residual_block(self) -> None:
        """Two convolutions of 4 channels on 8 x 8 (256 elements), the second added to the block's input."""
        block = graph(
            conv("a", c=4), after("a.bn", "batch_norm"), after("a.relu", "relu"), conv("b", c=4),
            after("b.bn", "batch_norm"), conv("c", c=4), after("add", "add"), after("relu", "relu"),
            edges="a>a.bn a.bn>a.relu a.relu>b b>b.bn a.relu>c b.bn>add c>add add>relu",
        )  # fmt: skip
        unit = found(block)
        assert list(unit) == ["a", "b", "c", "add"]
        assert [u.array for u in unit.values()] == [True, True, True, False]
        assert [u.fused for u in unit.values()] == [("a.bn", "a.relu"), ("b.bn",), (), ("relu",)]
        assert [u.vector_ops for u in unit.values()] == [256, 0, 0, 512]  # relu; nothing; nothing; add and relu
        assert [u.input_elements for u in unit.values()] == [256, 256, 256, 512]
        assert [u.output_elements for u in unit.values()] == [256] * 4
        # b reads what a made, but so does c; c reads it too, but not right behind it; the addition reads two
        assert [u.from_previous for u in unit.values()] == [False, True, False, False]
        assert [u.to_next for u in unit.values()] == [False] * 4

    def test_depthwise_and_relu6_from_torch(self) -> None:
        layers = [nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU6()]
        layers += [nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.BatchNorm2d(8), nn.ReLU6()]
        first, second = traced(nn.Sequential(*layers), meta(2, 3, 16, 16)).values()
        assert (first.fused, second.fused) == (("1", "2"), ("4", "5"))
        assert (first.vector_ops, second.vector_ops) == (2 * 2 * 8 * 256, 2 * 2 * 8 * 64)  # max and min, batch of 2
        assert (second.layer.G, second.input_elements, second.output_elements) == (8, 2 * 8 * 256, 2 * 8 * 64)
        assert (first.to_next, second.from_previous, second.to_next) == (True, True, False)

    def test_batch_norm_is_free_only_where_weights_absorb_it(self) -> None:
        size = 256
        for head in (conv("a"), Layer("a", "linear", K=4, C=3, OX=64, IX=64)):
            assert found(chain(head, after("n", "batch_norm")))["a"].vector_ops == 0
        behind_relu = found(chain(conv("a"), after("r", "relu"), after("n", "batch_norm")))
        assert behind_relu["a"].fused == ("r", "n")
        assert behind_relu["a"].vector_ops == size + 2 * size
        product = Layer("a", "matmul", G=4, K=8, C=3, OX=8, IX=8)
        assert found(chain(product, after("n", "batch_norm")))["a"].vector_ops == 2 * size
        alone = found(graph(after("n", "batch_norm"), after("r", "relu"), edges="n>r"))["n"]
        assert (alone.array, alone.vector_ops, alone.fused) == (False, 3 * size, ("r",))

    def test_what_another_reader_needs_is_stored(self) -> None:
        unit = found(graph(conv("a"), after("r", "relu"), conv("b", c=4), edges="a>r a>b"))
        assert list(unit) == ["a", "r", "b"]
        assert (unit["r"].from_previous, unit["a"].to_next) == (True, False)

    def test_a_part_of_a_result_is_not_fused(self) -> None:
        unit = traced(Apply(lambda x: F.relu(F.conv2d(x, meta(4, 3, 1, 1))[:, :, :5])), meta(1, 3, 8, 8))
        conv2d, relu = unit.values()
        assert (conv2d.fused, relu.input_elements, relu.output_elements) == ((), 4 * 5 * 8, 4 * 5 * 8)
        assert (conv2d.to_next, relu.from_previous) == (False, False)

    def test_two_operands_are_no_epilogue(self) -> None:
        unit = found(graph(conv("a"), after("m", "mul"), edges="a>m"))  # the other operand is a constant
        assert (unit["m"].vector_ops, unit["m"].input_elements, unit["m"].from_previous) == (256, 256, True)


class TestOperands:
    def test_the_same_tensor_twice_is_loaded_twice(self) -> None:
        unit = found(graph(conv("a"), after("s", "add"), edges="a>s a>s"))
        assert (unit["s"].input_elements, unit["s"].from_previous, unit["a"].to_next) == (512, False, False)

    def test_a_product_with_itself_reads_two(self) -> None:
        unit = found(chain(Layer("a", "linear", K=8, C=8, OX=8, IX=8), Layer("b", "matmul", K=8, C=8, OX=8, IX=8)))
        assert (unit["b"].from_previous, unit["a"].to_next) == (False, False)

    def test_the_networks_input_has_no_producer(self) -> None:
        unit = found(chain(after("r", "relu"), after("s", "softmax")))
        assert (unit["r"].input_elements, unit["r"].from_previous, unit["r"].to_next) == (256, False, True)

    def test_a_broadcast_operand_is_loaded_as_small_as_it_is(self) -> None:
        """Squeeze and excitation: 16 channels of 6 x 6 times one factor a channel."""

        def gate(x: Tensor) -> Tensor:
            x = F.conv2d(x, meta(16, 3, 1, 1))
            return x * F.adaptive_avg_pool2d(x, 1).sigmoid()

        _, mean, product = traced(Apply(gate), meta(1, 3, 6, 6)).values()
        assert (mean.layer.op, mean.vector_ops, mean.input_elements) == ("adaptive_avg_pool2d", 576 + 16, 576)
        assert (product.vector_ops, product.input_elements, product.output_elements) == (576, 576 + 16, 576)

    def test_a_concatenation_moves_what_it_stores(self) -> None:
        def grow(x: Tensor, past: Tensor) -> Tensor:
            return torch.cat([past, F.linear(x, meta(6, 6))], 1)

        _, cat = traced(Apply(grow), meta(1, 2, 6), meta(1, 9, 6)).values()
        assert (cat.vector_ops, cat.input_elements, cat.output_elements) == (0, 11 * 6, 11 * 6)
        assert not cat.from_previous  # most of it is the network's input

    def test_resampling_loads_the_small_map(self) -> None:
        unit = only(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), meta(1, 4, 8, 8))
        assert (unit.vector_ops, unit.input_elements, unit.output_elements) == (7 * 1024, 256, 1024)

    def test_embedding_loads_an_index_and_a_row(self) -> None:
        unit = only(lambda ids: F.embedding(ids, meta(100, 24)), torch.zeros((2, 7), dtype=torch.int64, device="meta"))
        assert (unit.vector_ops, unit.input_elements, unit.output_elements) == (0, 14 + 14 * 24, 14 * 24)

    def test_padding_loads_what_is_inside_and_glu_twice_what_it_makes(self) -> None:
        _, pad = traced(Apply(lambda x: F.pad(F.linear(x, meta(6, 6)), (1, 1))), meta(3, 6)).values()
        assert (pad.vector_ops, pad.input_elements, pad.output_elements) == (0, 18, 24)
        unit = only(lambda x: F.glu(x, 1), meta(1, 6, 4, 4))
        assert (unit.vector_ops, unit.input_elements, unit.output_elements) == (2 * 48, 96, 48)


class TestCounts:
    def test_attention(self) -> None:
        """4 heads of 8 over 10 tokens: 400 scores."""

        def attention(x: Tensor) -> Tensor:
            q, k, v = (F.linear(x, meta(32, 32)).view(1, 10, 4, 8).transpose(1, 2) for _ in range(3))
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
            return F.linear(y.reshape(1, 10, 32), meta(32, 32))

        result = list(traced(Apply(attention), meta(1, 10, 32)).values())
        assert [u.layer.op for u in result] == ["linear"] * 3 + ["matmul", "softmax", "matmul", "linear"]
        scores, softmax, mixed, out = result[3:]
        assert softmax.vector_ops == 5 * 400  # max, subtract, exp, sum, divide
        assert (softmax.input_elements, softmax.output_elements) == (400, 400)
        assert (scores.to_next, softmax.from_previous) == (True, True)
        assert (scores.from_previous, mixed.from_previous, softmax.to_next) == (False, False, False)  # they read two
        assert (mixed.to_next, out.from_previous) == (True, True)
        assert sum(u.layer.macs for u in result) == 4 * 10 * 32 * 32 + 2 * 4 * 10 * 10 * 8

    @pytest.mark.parametrize(("kind", "gates", "ops"), [(nn.LSTM, 4, 13), (nn.GRU, 3, 11), (nn.RNN, 1, 2)])
    def test_recurrent_cells(self, kind: type[nn.Module], gates: int, ops: int) -> None:
        """LSTM: 4 (add, look-up) gates, 3 for the state, 2 for the result. 5 steps of 6 hidden values, batch of 2."""
        inputs, hidden, cell = traced(kind(3, 6, batch_first=True), meta(2, 5, 3)).values()
        assert (inputs.array, hidden.array, cell.array) == (True, True, False)
        assert cell.vector_ops == ops * 2 * 5 * 6
        assert (cell.input_elements, cell.output_elements) == (2 * gates * 2 * 5 * 6, 2 * 5 * 6)

    @pytest.mark.parametrize(
        ("function", "ops", "outputs"),
        [
            (lambda x: F.max_pool2d(x, 2), 3 * 4 * 16, 4 * 16),  # three comparisons a window
            (lambda x: F.max_pool2d(x, 3, 2, 1), 8 * 4 * 16, 4 * 16),
            (lambda x: F.avg_pool2d(x, 2), 4 * 4 * 16, 4 * 16),  # three additions and a multiplication
            (lambda x: F.adaptive_avg_pool2d(x, 1), 64 * 4, 4),
            (lambda x: F.adaptive_max_pool2d(x, 2), 15 * 16, 16),
            (lambda x: x.mean((2, 3)), 64 * 4, 4),
            (lambda x: x.sum(1), 3 * 64, 64),
            (lambda x: x.amax(1), 3 * 64, 64),
            (lambda x: x.argmax(1), 2 * 3 * 64, 64),
            (lambda x: x.var((2, 3)), 4 * 64 * 4, 4),
            (lambda x: x.std((2, 3)), (4 * 64 + 1) * 4, 4),
            (lambda x: x.logsumexp(1), 4 * 4 * 64, 64),
        ],
    )
    def test_windows_and_reductions(self, function: Any, ops: int, outputs: int) -> None:
        unit = only(function, meta(1, 4, 8, 8))
        assert (unit.vector_ops, unit.input_elements, unit.output_elements) == (ops, 256, outputs)

    @pytest.mark.parametrize(
        ("function", "ops"),
        [
            (F.relu, 1), (F.relu6, 2), (lambda x: x.clamp(-1, 1), 2), (F.leaky_relu, 2), (F.sigmoid, 1), (F.silu, 2),
            (F.hardsigmoid, 4), (F.hardswish, 5), (F.gelu, 5), (F.mish, 5), (F.elu, 5), (lambda x: x.softmax(-1), 5),
            (lambda x: F.layer_norm(x, (8,)), 7), (lambda x: F.rms_norm(x, (8,)), 4), (lambda x: x.roll(1), 0),
            (lambda x: x.cumsum(1), 1),
        ],
    )  # fmt: skip
    def test_operations_an_element(self, function: Any, ops: int) -> None:
        unit = only(function, meta(1, 4, 8, 8))
        assert (unit.vector_ops, unit.input_elements, unit.output_elements) == (ops * 256, 256, 256)

    def test_transposed_convolution_adds_every_product(self) -> None:
        """5 x 5 positions times 6 channels of 3 x 3 taps; then the epilogue on 6 maps of 11 x 11."""
        model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, groups=2), nn.BatchNorm2d(6), nn.ReLU())
        (unit,) = traced(model, meta(1, 4, 5, 5)).values()
        assert unit.vector_ops == 25 * 6 * 9 + 6 * 11 * 11
        assert (unit.array, unit.input_elements, unit.output_elements) == (True, 100, 6 * 121)


class TestAll:
    @pytest.mark.parametrize("name", zoo.names())
    def test_every_network_of_the_zoo(self, name: str) -> None:
        workload = profile(name).workload
        result, left = units_of(workload)
        assert left == {}
        assert sum(unit.layer.macs for unit in result if unit.array) == workload.macs
        named = [name for unit in result for name in (unit.layer.name, *unit.fused)]
        assert sorted(named) == sorted(layer.name for layer in workload.layers)  # each is in one unit, once
        heads = [unit.layer.name for unit in result]
        assert heads == sorted(heads, key=[layer.name for layer in workload.layers].index)
        assert not result[-1].to_next
        for unit, following in pairwise(result):
            assert following.from_previous or not unit.to_next
            assert not following.from_previous or following.input_elements == unit.output_elements

    def test_networks_without_a_branch_are_one_chain(self) -> None:
        for name in ("lenet5", "vgg16", "mobilenet_v1", "mlperf_tiny_kws"):
            result, _ = units_of(profile(name).workload)
            assert all(unit.to_next for unit in result[:-1])

    def test_lenet5_by_hand(self) -> None:
        """Epilogues of 6 x 28 x 28, 16 x 10 x 10, 120 and 84; 2 x 2 pooling to 6 x 14 x 14 and 16 x 5 x 5."""
        result, _ = units_of(profile("lenet5").workload)
        pooled = 3 * (6 * 196 + 16 * 25)
        assert sum(unit.vector_ops for unit in result) == 6 * 784 + 16 * 100 + 120 + 84 + pooled

    def test_every_formula_of_the_profiler_has_one_here(self) -> None:
        shape = (1, 4, 8, 8)
        ref = TensorRef(0, shape, 4)
        args = {"x": ref, "kernel_size": 2, "stride": 2, "padding": 0, "min_val": 0, "max_val": 1}
        made: dict[str, Layer] = {}
        for extra in ({}, {"other": ref}, {"max_val": 6}):
            event = Event("", {**args, **extra}, (TensorRef(1, shape, 4),), (), "", 0, True)
            call = Operands(event, lambda _: False, lambda _: shape, lambda _: True)
            several = ("max", "min") if "other" in extra else FORMULAS.keys() - GEMM.keys()  # max(a, b) is no reduction
            for formula in (FORMULAS[name] for name in several):
                made |= {step.op: Layer(step.op, step.op, **step.loops) for step in formula(call)}
        # what the formulas with MACs make besides them: attention has a softmax, and the cells are tested above
        besides = {op: Layer(op, op) for op in ("softmax", "lstm_cell", "gru_cell", "rnn_cell")}
        rules = json.loads(units._DATA.read_text())["operators"]
        assert set(rules) == {*made, *besides}
        for layer in (*made.values(), *besides.values()):
            (unit,), left = units_of(Workload(layer.op, (layer,)))
            assert (left, unit.array, unit.vector_ops >= 0) == ({}, False, True)

    def test_every_rule_says_how_it_was_counted(self) -> None:
        data = json.loads(units._DATA.read_text())
        for op, row in data["operators"].items():
            assert op not in MAC_OPS
            assert row["kind"] in data["kinds"]
            assert row["why"]
            assert row["ops"] + row.get("once", 0) >= 0  # a window of one element
            assert not (row["ops"] and row["kind"] == "moving")

    def test_what_has_no_formula_is_counted(self) -> None:
        layers = (conv("a"), after("u", "fft"), after("r", "relu"))
        edges = (("a", "u"), ("u", "r"))
        result, left = units_of(Workload("w", layers, edges, {"sort": 2}))
        assert left == {"fft": 1, "sort": 2}
        assert [unit.layer.name for unit in result] == ["a", "r"]
        assert [(unit.from_previous, unit.to_next, unit.input_elements) for unit in result[1:]] == [(False, False, 256)]

    def test_a_workload_has_something_to_run(self) -> None:
        with pytest.raises(InvalidInputError, match="'w' has none; without one are sort, fft"):
            units_of(Workload("w", (after("u", "fft"),), (), {"sort": 2}))
