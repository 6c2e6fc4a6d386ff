"""A GEMM on the array of the RTL: against numpy, the predicted cycles, SCALE-Sim, and the names of the values."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

import codesign_kernel as ck
from codesign_kernel.accelerator.isa import ISSUE, Op, cycles
from codesign_kernel.cosim import wavefront
from codesign_kernel.cost import systolic_cycles
from codesign_kernel.errors import InvalidInputError, SimulatorError

#: M, K, N, rows, cols: fits, does not divide, one element, one row, one column, one of everything.
SIZES = [
    (4, 4, 4, 4, 4),
    (5, 7, 6, 4, 3),
    (3, 2, 3, 1, 1),
    (1, 1, 1, 2, 3),
    (4, 5, 3, 1, 4),
    (3, 6, 5, 3, 1),
    (1, 1, 1, 1, 1),
]
BOTH = pytest.mark.parametrize("sizes", SIZES, ids=str)
EACH = pytest.mark.parametrize("dataflow", ["ws", "os", "is"])


def matrices(m: int, k: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(-128, 128, (m, k)), generator.integers(-128, 128, (k, n))


@functools.cache
def traced(sizes: tuple[int, ...], dataflow: str) -> ck.ArrayTrace:
    """The trace of random matrices of these sizes."""
    return ck.array_trace(*matrices(*sizes[:3]), dataflow, *sizes[3:])


def distinct(m: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices whose values are all different, so that a value says which element it is."""
    values = np.arange(m * k + k * n) - (m * k + k * n) // 2
    return values[: m * k].reshape(m, k), values[m * k :].reshape(k, n)


@EACH
@BOTH
def test_it_computes_the_product(sizes: tuple[int, ...], dataflow: str) -> None:
    m, k, n, rows, cols = sizes
    a, b = matrices(m, k, n)
    trace = traced(sizes, dataflow)
    assert np.array_equal(trace.result, a @ b)
    assert trace.macs == trace.busy.sum() == m * k * n
    assert trace.sums.shape == trace.inputs.shape == (trace.cycles, rows, cols)
    assert trace.utilization == pytest.approx(m * k * n / (trace.cycles * rows * cols))


@EACH
@BOTH
def test_cycles_are_those_predicted(sizes: tuple[int, ...], dataflow: str) -> None:
    """Those of the accelerator's instructions less the memory, accumulators and lanes around the array."""
    m, k, n, rows, cols = sizes
    trace = traced(sizes, dataflow)
    words, width = (n, m) if dataflow == "is" else (m, n)
    depth, across = math.ceil(k / rows), math.ceil(width / cols)
    if dataflow == "os":
        # address 1, memory 1; maximum, bias, multiply, shift and clamp 4; columns follow each other without a gap
        one = cycles(Op.SUM, rows=rows, cols=cols, positions=words, taps=depth * across)
        assert trace.cycles == one - ISSUE - 6
    else:
        # memory 1, accumulate 1
        one = cycles(Op.CONV, rows=rows, cols=cols, positions=words, taps=depth * across)
        assert trace.cycles == one - ISSUE - 2
    if depth * across == 1 and words <= rows:
        # SCALE-Sim counts no cycle in which weights are swapped or a word is taken, nor the registers behind the sums
        padding = {"os": rows - k}.get(dataflow, 0)
        assert trace.cycles == systolic_cycles(m, n, k, rows, cols, dataflow) + padding + {"os": 3}.get(dataflow, 2)


@EACH
@BOTH
def test_names_agree_with_values(sizes: tuple[int, ...], dataflow: str) -> None:
    m, k, n, rows, cols = sizes
    a, b = distinct(m, k, n)
    trace = ck.array_trace(a, b, dataflow, rows, cols)
    on = trace.active
    assert np.array_equal(trace.inputs[on], a[trace.i[on], trace.k[on]])
    assert np.array_equal(trace.weights[on], b[trace.k[on], trace.j[on]])
    done = {(i, k, j) for i, k, j in zip(trace.i[on], trace.k[on], trace.j[on], strict=True)}
    assert len(done) == m * k * n, "each multiplication is done once"
    if dataflow != "os":
        held, stays = (trace.weights, b) if dataflow == "ws" else (trace.inputs, a)
        for values, row, col in (
            (held, trace.held_row, trace.held_col),
            (trace.waiting, trace.waiting_row, trace.waiting_col),
        ):
            named = row >= 0
            assert np.array_equal(named, col >= 0)
            assert np.array_equal(values[named], stays[row[named], col[named]])
            assert len({*zip(row[named], col[named], strict=True)}) == stays.size, "each operand stays once"


@EACH
@BOTH
def test_the_parts_that_leave_add_up(sizes: tuple[int, ...], dataflow: str) -> None:
    m, k, n, _, _ = sizes
    a, b = matrices(m, k, n)
    trace = traced(sizes, dataflow)
    total, last = np.zeros((m, n), int), np.zeros((m, n), int)
    for cycle, col in np.argwhere(trace.leaves_i >= 0):
        place = trace.leaves_i[cycle, col], trace.leaves_j[cycle, col]
        assert not last[place], "nothing follows the last part"
        total[place] += trace.leaves[cycle, col]
        last[place] += trace.leaves_last[cycle, col]
    assert np.array_equal(total, a @ b)
    assert (last == 1).all()
    assert not trace.leaves[trace.leaves_i < 0].any()


def test_operands_move_as_the_dataflow_says() -> None:
    a, b = distinct(5, 4, 4)
    for dataflow, right, down in (("ws", "inputs", "sums"), ("os", "inputs", "weights"), ("is", "weights", "sums")):
        trace = ck.array_trace(a, b, dataflow)
        moving = getattr(trace, right)
        assert np.array_equal(moving[1:, :, 1:], moving[:-1, :, :-1]), f"{right} move right in {dataflow}"
        if down == "sums":
            assert np.array_equal(trace.sums_in[1:, 1:], trace.sums[:-1, :-1])
        else:
            assert np.array_equal(trace.weights[1:, 1:], trace.weights[:-1, :-1])
    assert ck.array_trace(a, b, "os").stationary == "outputs"


def test_the_history_of_an_element() -> None:
    a, b = matrices(3, 4, 4)
    trace = ck.array_trace(a, b, "os", 4, 4)
    steps = trace.history(1, 2)
    assert [(step.i, step.k, step.j) for step in steps] == [(1, k, 2) for k in range(4)]
    assert [step.cycle for step in steps] == list(range(steps[0].cycle, steps[0].cycle + 4))
    assert all(step.sum == step.sum_in + step.input * step.weight for step in steps)
    assert steps[-1].sum == (a @ b)[1, 2]
    with pytest.raises(InvalidInputError, match="col of this array is 0 to 3, but got 4"):
        trace.history(0, 4)


def test_a_trace_says_what_it_is_and_stays_as_it_is() -> None:
    trace = ck.array_trace(*matrices(6, 4, 5))
    assert str(trace).startswith("6 x 4 by 4 x 5, weights stay in 4 x 4 elements: 120 MACs in ")
    with pytest.raises(ValueError, match="read-only"):
        trace.sums[0, 0, 0] = 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"a": [[1, 2]], "b": [[1, 2]]}, "a has as many columns as b has rows, but got 2 and 1"),
        ({"a": [1, 2]}, r"a is a matrix of integers, but got an array of shape \(2,\)"),
        ({"a": [[1.0]]}, "type float64"),
        ({"a": [[True]]}, "type bool"),
        ({"a": [["x"]]}, "a is a matrix of integers"),
        ({"a": [[1, 2], [3]]}, "a is a matrix of integers, but its rows differ"),
        ({"b": np.zeros((1, 0), int)}, "b is a matrix of integers"),
        ({"b": [[128]]}, "b has values from -128 to 127, but got 128 to 128"),
        ({"dataflow": "rs"}, "dataflow is one of 'ws', 'os', 'is', but got 'rs'"),
        ({"dataflow": ["ws"]}, "dataflow is one of"),
        ({"rows": 17}, "rows is an integer from 1 to 16, but got 17"),
        ({"cols": 0}, "cols is an integer from 1 to 16, but got 0"),
        ({"cols": 2.0}, "cols is an integer"),
        ({"a": np.ones((5000, 1), int)}, "at most 4,096 cycles"),
        ({"a": np.ones((2000, 1), int), "rows": 16, "cols": 16}, "262,144 cycles times elements"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        ck.array_trace(**{"a": [[1]], "b": [[1]], **given})


def test_hardware_that_differs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = wavefront.simulate

    def wrong(*given: object) -> dict[str, np.ndarray]:
        seen = right(*given)
        seen["total"][8, 1, 1] += 1
        return seen

    monkeypatch.setattr(wavefront, "simulate", wrong)
    with pytest.raises(SimulatorError, match="sums of 'ws' on 4 x 4 do not agree"):
        ck.array_trace(*matrices(6, 4, 5))
