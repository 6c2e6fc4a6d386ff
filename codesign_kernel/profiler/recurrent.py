"""Formulas of recurrent networks: their GEMMs as ``linear`` layers, their gates as one element-wise layer."""

from __future__ import annotations

from codesign_kernel.profiler.events import TensorRef
from codesign_kernel.profiler.formulas import Formula, Operands, Step


def recurrent(gates: int, cell: str) -> Formula:
    """LSTM, GRU and Elman networks: per layer and direction a ``linear`` for the inputs of all time steps, one for the
    hidden states, whose time steps follow one another (``Layer.steps``), and the cell's element-wise part. The
    recurrence itself is no edge: edges have no cycles."""

    def formula(call: Operands) -> list[Step]:
        x = call.get("input", "data")
        packed = call.get("batch_sizes") is not None
        # packed sequences and [T, N, I] are both [time, rows]; the first axis of batch_first is the batch
        n, t = (1, x.shape[0]) if packed else (x.shape[0], x.shape[1]) if call["batch_first"] else x.shape[1::-1]
        cells = call["num_layers"] * (2 if call["bidirectional"] else 1)
        size = len(call["params"]) // cells
        steps: list[Step] = []
        source: tuple[TensorRef | int, ...] = (x,)
        for layer in range(call["num_layers"]):
            ends: list[TensorRef | int] = []
            for direction in range(cells // call["num_layers"]):
                start = (layer * cells // call["num_layers"] + direction) * size
                weights = call["params"][start : start + size]
                steps += _cell(steps, cell, gates, source, weights, (n, t, x.itemsize), call["has_biases"])
                ends.append(len(steps) - 1)
            source = tuple(ends)
        return steps

    return formula


def _cell(
    before: list[Step],
    name: str,
    gates: int,
    source: tuple[TensorRef | int, ...],
    weights: list[TensorRef],
    sizes: tuple[int, int, int],
    biased: bool,
) -> list[Step]:
    n, t, itemsize = sizes
    w_ih, w_hh, *rest = weights
    b_ih, b_hh = (rest[:1], rest[1:2]) if biased else ([], [])
    projection = rest[2:] if biased else rest
    hidden, first = w_ih.shape[0] // gates, len(before)

    def fully_connected(weight: TensorRef, reads: tuple[TensorRef | int, ...], in_turn: int = 1) -> Step:
        k, c = weight.shape
        loops = {"B": n, "K": k, "C": c, "OX": t, "IX": t, "steps": in_turn}
        return Step("linear", loops, (*reads, weight), n * t * c * itemsize, n * t * k * itemsize)

    steps = [fully_connected(w_ih, (*source, *b_ih)), fully_connected(w_hh, (first, *b_hh), t)]
    loops = {"B": n, "K": hidden, "C": gates * hidden, "OX": t, "IX": t}
    steps.append(Step(name, loops, (first, first + 1), output_bytes=n * t * hidden * itemsize))
    if projection:
        steps.append(fully_connected(projection[0], (first + 2,), t))
    return steps


def recurrent_cell(gates: int, cell: str) -> Formula:
    """One time step: ``nn.LSTMCell``, ``nn.GRUCell``."""

    def formula(call: Operands) -> list[Step]:
        x = call["input"]
        biases = [bias for bias in (call["b_ih"], call["b_hh"]) if bias is not None]
        batch = x.shape[0] if len(x.shape) > 1 else 1
        return _cell([], cell, gates, (x,), [call["w_ih"], call["w_hh"], *biases], (batch, 1, x.itemsize), bool(biases))

    return formula
