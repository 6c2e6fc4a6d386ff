"""FusionReport: what became of a model's operators, and how far maps no longer travel. Loads without torch."""

from __future__ import annotations

import html
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codesign_kernel.accelerator.types import DATA_BITS
from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.layer import INPUT
from codesign_kernel.units import quantity, three_digits

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.export import ExportedProgram

#: What can become of an operator.
LAYER, FOLDED, FUSED, NOTHING = "a layer", "folded", "fused", "nothing at inference"


@dataclass(frozen=True)
class Operator:
    """One operator of a model, and what became of it.

    Attributes:
        name: its path. kind: its module's class, or ATen's name.
        fate: ``LAYER``, ``FOLDED``, ``FUSED`` or ``NOTHING``.
        layer: number of the layer that computes it, or whose map it passes on; -1 is the network's input.
        reads, writes: elements of maps that it reads and writes for one image; 0 for a view, which moves nothing.
        parameters: numbers of its own that it reads.
    """

    name: str
    kind: str
    fate: str
    layer: int
    reads: int
    writes: int
    parameters: int

    @property
    def saved(self) -> int:
        """Elements that no longer travel: the map between it and the operator before it, written and read.

        What is no layer has one map to read, and that one stays where it was computed.
        """
        return 0 if self.fate == LAYER else 2 * self.reads


@dataclass(frozen=True)
class LayerTraffic:
    """Elements of maps read and written for one image: by a layer's operators one by one, and by the layer."""

    name: str
    op: str
    before: int
    after: int


@dataclass(frozen=True)
class FusionReport(Shown):
    """What reading a model made of it. Traffic is of maps, for one image; weights travel as before.

    ``traffic_before - traffic_saved == traffic_after``, in all and for each layer.

    Attributes:
        network: the model's class. bits: of an element of a map.
        operators: in execution order. layers: in execution order; before them a row ``input`` if operators that do
            nothing at inference stand in front of the first layer and move its map.
    """

    network: str
    bits: int
    operators: tuple[Operator, ...]
    layers: tuple[LayerTraffic, ...]

    @property
    def traffic_before(self) -> int:
        """Elements that all operators read and write, one by one."""
        return sum(layer.before for layer in self.layers)

    @property
    def traffic_after(self) -> int:
        """Elements that all layers read and write."""
        return sum(layer.after for layer in self.layers)

    @property
    def traffic_saved(self) -> int:
        """Elements that no longer travel."""
        return sum(operator.saved for operator in self.operators)

    @property
    def layers_after(self) -> int:
        """How many layers are left."""
        return sum(operator.fate == LAYER for operator in self.operators)

    @property
    def parameters_folded(self) -> int:
        """Numbers of batch normalisations that went into weights and biases."""
        return sum(operator.parameters for operator in self.operators if operator.fate == FOLDED)

    def bytes(self, elements: int) -> float:
        """What so many elements take, without padding (byte)."""
        return elements * self.bits / 8

    def became(self, operator: Operator) -> str:
        """In words: ``folded into conv1``."""
        joined = operator.fate in (FOLDED, FUSED)
        return f"{operator.fate} into {self._names[operator.layer]}" if joined else operator.fate

    @property
    def _names(self) -> list[str]:
        return [layer.name for layer in self.layers if layer.name != INPUT]

    @property
    def frame(self) -> pd.DataFrame:
        """One row an operator: operator, kind, became, read, written, saved (elements for one image), saved_bytes,
        parameters_folded."""
        import pandas as pd

        rows = [
            {
                "operator": one.name,
                "kind": one.kind,
                "became": self.became(one),
                "read": one.reads,
                "written": one.writes,
                "saved": one.saved,
                "saved_bytes": self.bytes(one.saved),
                "parameters_folded": one.parameters if one.fate == FOLDED else 0,
            }
            for one in self.operators
        ]
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``codesign fuse --json`` prints it."""
        return {
            "network": self.network,
            "bits": self.bits,
            "operators_before": len(self.operators),
            "layers_after": self.layers_after,
            "traffic_before_bytes": self.bytes(self.traffic_before),
            "traffic_saved_bytes": self.bytes(self.traffic_saved),
            "traffic_after_bytes": self.bytes(self.traffic_after),
            "parameters_folded": self.parameters_folded,
            "operators": self.frame.to_dict("records"),
            "layers": [vars(layer) for layer in self.layers],
        }

    def __str__(self) -> str:
        """The totals in words."""
        before, after = (quantity(self.bytes(e), "B") for e in (self.traffic_before, self.traffic_after))
        share = three_digits(100 * self.traffic_saved / self.traffic_before)
        count = Counter(operator.fate for operator in self.operators)
        lines = [
            f"{self.network}: {len(self.operators)} operators become {self.layers_after} layers",
            f"maps of {self.bits} bits: {after} written and read for each image instead of {before}, {share} % less",
            f"{count[FOLDED]} batch normalisations folded ({self.parameters_folded:,} parameters), {count[FUSED]} "
            f"operators fused, {count[NOTHING]} do nothing at inference",
        ]
        return "\n  ".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def fusion_report(
    model: nn.Module | ExportedProgram, example_inputs: Tensor | NDArray[Any], bits: int = 8
) -> FusionReport:
    """What becomes of each operator of ``model`` on the datapath, and the traffic of maps that this saves.

    Batch normalisation goes into the weights and the bias of the layer before it, a ReLU and a square max pooling into
    the way out of that layer, and dropout is gone: the maps between them are never written. Before means that each
    operator reads and writes its maps; a flattening moves nothing.

    Args:
        model: as for :func:`codesign_kernel.quantize`; its weights do not matter.
        example_inputs: [N, C, H, W], floating point, that it can run on.
        bits: of an element of a map: 4, 8 or 16.

    Raises:
        InvalidInputError: ``bits`` or the inputs break a law, or the model cannot run on them.
        UnsupportedLayerError: the model holds a layer that the datapath cannot run; the message names it.
    """
    if not isinstance(bits, int) or bits not in DATA_BITS:
        raise InvalidInputError(f"bits is one of {DATA_BITS}, but got {bits!r}")
    from codesign_kernel.optimize.graph import example_of, read

    reading = read(model, example_of(example_inputs))
    size = [math.prod(shape) for shape in (reading.shape, *reading.shapes)]  # of the input, then of each layer's map
    moved = Counter[int]()
    for operator in reading.operators:
        moved[operator.layer] += operator.reads + operator.writes
    layers = [
        LayerTraffic(layer.name, layer.op, moved[i], sum(size[source + 1] for source in layer.reads) + size[i + 1])
        for i, layer in enumerate(reading.layers)
    ]
    in_front = [LayerTraffic(INPUT, INPUT, moved[-1], 0)] if moved[-1] else []
    return FusionReport(reading.name, bits, tuple(reading.operators), (*in_front, *layers))
