"""Profile: what one forward pass of a model computes, stores and moves. Plain data; loads without torch."""

from __future__ import annotations

import hashlib
import html
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from codesign_kernel.display import Shown
from codesign_kernel.profiler.lifetime import Activation
from codesign_kernel.units import quantity
from codesign_kernel.workload import Layer, Workload

if TYPE_CHECKING:
    import pandas as pd

#: Row of ``Profile.table`` for parameters that no operator used.
UNUSED = "(no operator)"
_LOOP_COLUMNS = ("B", "G", "K", "C", "OY", "OX", "FY", "FX")


@dataclass(frozen=True)
class Operator:
    """One layer of the workload and what it stores and moves, in the types that the model was profiled with.

    Attributes:
        layer: its loops.
        parameters, parameter_bytes: parameters counted with this layer (those shared with an earlier layer are not).
        input_bytes, output_bytes: activations read and written (byte).
        fixed_bytes: parameters, buffers and constants read, shared or not (byte; an embedding's whole table).
    """

    layer: Layer
    parameters: int
    parameter_bytes: int
    input_bytes: int
    output_bytes: int
    fixed_bytes: int

    @property
    def intensity(self) -> float:
        """MAC per byte read or written, each operand once."""
        moved = self.input_bytes + self.output_bytes + self.fixed_bytes
        return self.layer.macs / moved if moved else 0.0


@dataclass(frozen=True)
class Profile(Shown):
    """A profiled model.

    Attributes:
        name: of the model. workload: its loops, edges and uncosted operators; precisions are the layers' defaults,
            because they belong to the design and not to the model.
        operators: one for each layer of the workload, in the same order.
        parameters: count of all parameters, each once, used or not. parameter_bytes: as the model stores them.
        inputs: (shape, dtype) of each example input tensor.
        peak_activation_bytes: the most memory that activations need at once, in the types that the model was profiled
            with and in the order of execution (``profiler.lifetime``). activations: the tensors that it is made of,
            network inputs first; none of a profile that was made without.
        wall_us: where it was measured, the wall time of each operator (microseconds), in the same order. What torch
            runs as one operator is timed as one: its first layer has the time, its others 0.
    """

    name: str
    workload: Workload
    operators: tuple[Operator, ...]
    parameters: int
    parameter_bytes: int
    inputs: tuple[tuple[tuple[int, ...], str], ...] = ()
    peak_activation_bytes: int = 0
    activations: tuple[Activation, ...] = ()
    wall_us: tuple[float, ...] = field(default=(), compare=False)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass on the example inputs."""
        return self.workload.macs

    @property
    def activation_bytes(self) -> int:
        """Bytes of all operators' outputs together, in the types that the model was profiled with."""
        return sum(operator.output_bytes for operator in self.operators)

    @property
    def digest(self) -> str:
        """sha256 of the contents, without what was measured."""
        rows = [[*asdict(o).items()][1:] for o in self.operators]
        body = [self.name, self.workload.digest, rows, self.parameters, self.parameter_bytes, self.inputs]
        body.append(self.peak_activation_bytes)
        return hashlib.sha256(json.dumps(body).encode()).hexdigest()

    def table(self) -> pd.DataFrame:
        """One row an operator: name, op, B G K C OY OX FY FX, macs, parameters, parameter_bytes, input_bytes,
        output_bytes, intensity (MAC/byte), and wall_us where it was measured.

        Every column of counts adds up to the profile's total: parameters shared by two operators stand in the row of
        the first, and parameters that no operator used in a last row of their own. Bytes are those of the types that
        the model was profiled with; ``intensity`` also counts shared and constant operands.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = [
            {
                "name": o.layer.name,
                "op": o.layer.op,
                **{loop: getattr(o.layer, loop) for loop in _LOOP_COLUMNS},
                "macs": o.layer.macs,
                "parameters": o.parameters,
                "parameter_bytes": o.parameter_bytes,
                "input_bytes": o.input_bytes,
                "output_bytes": o.output_bytes,
                "intensity": o.intensity,
            }
            for o in self.operators
        ]
        left = self.parameters - sum(o.parameters for o in self.operators)
        if left:
            left_bytes = self.parameter_bytes - sum(o.parameter_bytes for o in self.operators)
            rest = dict.fromkeys((*_LOOP_COLUMNS, "macs", "input_bytes", "output_bytes"), 0)
            parameters = {"parameters": left, "parameter_bytes": left_bytes}
            rows.append({"name": UNUSED, "op": "", **rest, **parameters, "intensity": 0.0})
        for row, time in zip(rows, self.wall_us, strict=False):
            row["wall_us"] = time
        if left and self.wall_us:
            rows[-1]["wall_us"] = 0.0
        columns = ["name", "op", *_LOOP_COLUMNS, "macs", "parameters", "parameter_bytes", "input_bytes", "output_bytes"]
        return pd.DataFrame(rows, columns=[*columns, "intensity", *(["wall_us"] if self.wall_us else [])])

    def __repr__(self) -> str:
        """Totals in words, with what could not be costed."""
        lines = [
            f"Profile {self.name}: {len(self.operators)} operators, {quantity(self.macs, 'MAC')}",
            f"{quantity(self.parameters, '').strip()} parameters ({quantity(self.parameter_bytes, 'B')}), "
            f"activations {quantity(self.activation_bytes, 'B')}, at once {quantity(self.peak_activation_bytes, 'B')}",
        ]
        if self.workload.uncosted:
            counts = ", ".join(f"{op} x{count}" for op, count in sorted(self.workload.uncosted.items()))
            lines.append(f"not costed: {counts}")
        return "\n  ".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"
