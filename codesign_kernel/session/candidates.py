"""The networks of a joint search: what can be chosen of one, and how a choice becomes an IntegerNetwork."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.accelerator.types import DATA_BITS
from codesign_kernel.display import Shown
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize import Dataset, IntegerNetwork, accuracy, prune, quantize, quantize_aware
from codesign_kernel.optimize.channels import channels_of
from codesign_kernel.optimize.layer import PLAIN_OPS

#: Weights' widths that a layer may have of its own (bit).
WEIGHT_BITS = (2, 4, 8, 16)
#: What :meth:`NetworkSpace.of` lets a layer keep of its channels, and the widths of its weights (bit).
KEEP, WIDTHS = (0.25, 0.5, 0.75, 1.0), (2, 4, 8)
#: Names of the choices of one layer begin with these.
KEPT, WIDTH = "keep.", "weight_bits."


class Candidate(NamedTuple):
    """One network of the search, in a form that equal networks share.

    Attributes:
        bits: of activations, and of the machine (bit).
        epochs: of quantisation-aware training; 0 quantises after training.
        keep: (layer, share of its channels) where it is below 1.
        weight_bits: (layer, width) where it is below ``bits`` (bit).
    """

    bits: int
    epochs: int
    keep: tuple[tuple[str, float], ...]
    weight_bits: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        kept = ", ".join(f"{name} {share:g}" for name, share in self.keep)
        narrow = ", ".join(f"{name} {width}" for name, width in self.weight_bits)
        parts = [f"{self.bits} bits"]
        parts += [f"of the channels {kept}"] if kept else []
        parts += [f"weights of {narrow} bits"] if narrow else []
        return "; ".join(parts)


class NetworkSpace(Shown):
    """The product of what can be chosen of a network; network ``i`` takes its choices as digits of ``i``.

    Attributes:
        choices: by name: ``bits``, ``epochs``, ``keep.<layer>``, ``weight_bits.<layer>``.
    """

    def __init__(
        self,
        *,
        keep: Mapping[str, Sequence[float]] | None = None,
        weight_bits: Mapping[str, Sequence[int]] | None = None,
        bits: Sequence[int] = (8,),
        epochs: Sequence[int] = (4,),
    ) -> None:
        """
        Args:
            keep: by layer, shares of its channels that may be left, above 0 and at most 1; see ``ck.prune``.
            weight_bits: by layer, widths of its weights (bit): 2, 4, 8, 16. Those above ``bits`` count as ``bits``.
            bits: widths of activations (bit): 4, 8, 16. A network runs on machines of the same ``weight_bits``.
            epochs: of quantisation-aware training; 0 quantises after training.

        Raises:
            InvalidInputError: a list of choices is empty, names one twice, or holds what is none.
        """
        self.choices: dict[str, tuple[Any, ...]] = {
            "bits": _choices("bits", bits, lambda v: _whole(v) and v in DATA_BITS, f"of {DATA_BITS}"),
            "epochs": _choices("epochs", epochs, lambda v: _whole(v) and v >= 0, "whole numbers of 0 or more"),
        }
        for layer, shares in (keep or {}).items():
            law = _choices(KEPT + layer, shares, lambda v: 0 < v <= 1, "above 0 and at most 1")
            self.choices[KEPT + layer] = tuple(map(float, law))
        for layer, widths in (weight_bits or {}).items():
            self.choices[WIDTH + layer] = _choices(
                WIDTH + layer, widths, lambda v: _whole(v) and v in WEIGHT_BITS, f"of {WEIGHT_BITS}"
            )

    @classmethod
    def of(
        cls,
        model: Any,
        data: Dataset,
        network: IntegerNetwork,
        bits: Sequence[int] = (8,),
        epochs: Sequence[int] = (4,),
    ) -> NetworkSpace:
        """What is chosen where the user does not say: a share of the channels of every group that can be pruned, and 2,
        4 or 8 bits for the weights of each layer that has some.

        Args:
            model, data: torch module, and what it is trained on.
            network: the whole model, quantised.
            bits, epochs: as for the class.

        Raises:
            InvalidInputError: the model cannot be copied.
            MissingPackageError: torch-pruning is not installed.
        """
        keep = {group.name: KEEP for group in channels_of(model, _example(model, data)).groups}
        return cls(keep=keep, weight_bits=dict.fromkeys(_weighted(network), WIDTHS), bits=bits, epochs=epochs)

    def check(self, model: Any, data: Dataset, network: IntegerNetwork) -> None:
        """Refuse choices for layers that ``model`` has not; arguments as for :meth:`of`.

        Raises:
            InvalidInputError: there is no such layer, or two whose channels go together have choices of their own.
            UnsupportedLayerError: the channels of a layer cannot be pruned; the message says why.
        """
        known = _weighted(network)
        for layer in (name.removeprefix(WIDTH) for name in self.choices if name.startswith(WIDTH)):
            if layer not in known:
                raise InvalidInputError(f"weight_bits names layers with weights, {', '.join(known)}, but got {layer!r}")
        layers = [name.removeprefix(KEPT) for name in self.choices if name.startswith(KEPT)]
        channels = channels_of(model, _example(model, data)) if layers else None
        groups: dict[str, str] = {}
        for layer in layers:
            assert channels is not None
            group = channels.of(layer).name
            if group in groups:
                raise InvalidInputError(
                    f"channels that go together have one choice, but {groups[group]!r} and {layer!r} both have one; "
                    "name one of them"
                )
            groups[group] = layer

    @property
    def size(self) -> int:
        """Number of combinations; several may be one network."""
        return math.prod(len(values) for values in self.choices.values())

    @property
    def digest(self) -> str:
        """sha256 of the choices in order: what the numbers of networks mean."""
        return hashlib.sha256(json.dumps(list(self.choices.items())).encode()).hexdigest()

    def values(self, number: int) -> dict[str, Any]:
        """{name: choice} of network ``number``."""
        if not 0 <= number < self.size:
            raise InvalidInputError(f"networks are numbered 0 to {self.size - 1}, but got {number}")
        digits = np.unravel_index(number, tuple(map(len, self.choices.values())))
        return {name: values[int(d)] for (name, values), d in zip(self.choices.items(), digits, strict=True)}

    def candidate(self, number: int) -> Candidate:
        """Network ``number``."""
        values = self.values(number)
        bits = values["bits"]
        keep = [(n.removeprefix(KEPT), v) for n, v in values.items() if n.startswith(KEPT) and v < 1]
        widths = [(n.removeprefix(WIDTH), v) for n, v in values.items() if n.startswith(WIDTH) and v < bits]
        return Candidate(bits, values["epochs"], tuple(keep), tuple(widths))

    def canonical(self, number: int) -> int:
        """The number by which a network goes that several numbers stand for: weights are no wider than ``bits``."""
        values = self.values(number)
        digits = []
        for name, several in self.choices.items():
            value = values[name]
            if name.startswith(WIDTH) and value >= values["bits"]:
                value = min(v for v in several if v >= values["bits"])
            digits.append(several.index(value))
        return int(np.ravel_multi_index(digits, tuple(map(len, self.choices.values()))))

    def number(self, **values: Any) -> int:
        """The number of the network with these choices; the largest where one is not given.

        Raises:
            InvalidInputError: a value is no choice.
        """
        digits = []
        for name, several in self.choices.items():
            value = values.get(name, max(several))
            if value not in several:
                raise InvalidInputError(f"{name} is one of {several}, but got {value!r}")
            digits.append(several.index(value))
        return int(np.ravel_multi_index(digits, tuple(map(len, self.choices.values()))))

    def first(self) -> list[int]:
        """Networks to begin with: of each width of activations the largest and the smallest, and the one that has the
        middle of every choice."""
        found = []
        for bits in sorted(self.choices["bits"], reverse=True):
            others = {n: sorted(v) for n, v in self.choices.items() if n not in ("bits", "epochs")}
            for at in (lambda v: v[-1], lambda v: v[len(v) // 2], lambda v: v[0]):
                found.append(self.canonical(self.number(bits=bits, **{n: at(v) for n, v in others.items()})))
        return list(dict.fromkeys(found))

    def __repr__(self) -> str:
        return f"NetworkSpace({self.size:,} networks: {', '.join(f'{n} x{len(v)}' for n, v in self.choices.items())})"


def _choices(name: str, values: Any, lawful: Any, law: str) -> tuple[Any, ...]:
    several = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in several)
    if not several or not numbers or len(set(several)) != len(several) or not all(lawful(v) for v in several):
        raise InvalidInputError(f"{name} has one or more different choices, {law}, but got {values!r}")
    return several


def _whole(value: Any) -> bool:
    return isinstance(value, int)


@dataclass(frozen=True)
class Trained:
    """What came of a candidate.

    Attributes:
        accuracy: share of the validation inputs that the integer golden model gets right; NaN without a network.
        network: None where it could not be made.
        reason: why not; empty where it could.
        wall_s: seconds that it took.
    """

    accuracy: float
    network: IntegerNetwork | None
    reason: str
    wall_s: float

    def to_bytes(self) -> bytes:
        """All of it; :meth:`from_bytes` reads it."""
        accurate = None if self.network is None else self.accuracy
        head = json.dumps({"accuracy": accurate, "reason": self.reason, "wall_s": self.wall_s})
        return head.encode() + b"\n" + (b"" if self.network is None else _written(self.network))

    @classmethod
    def from_bytes(cls, content: bytes) -> Trained:
        """What :meth:`to_bytes` wrote; nothing in it is executed."""
        head, _, body = content.partition(b"\n")
        told = json.loads(head)
        accurate = math.nan if told["accuracy"] is None else told["accuracy"]
        return cls(accurate, _read(body) if body else None, told["reason"], told["wall_s"])


@dataclass(frozen=True)
class Training:
    """Makes candidates of one model: prunes, tunes, quantises, measures. Can be pickled.

    Attributes:
        model: torch module in floating point; it stays as it is.
        data: its task. The test part is not read.
        prune_recipe, tune_recipe: of the tuning after pruning and of quantisation-aware training, whose number of
            epochs is the candidate's.
        seed: of everything random.
    """

    model: Any
    data: Dataset
    prune_recipe: Any
    tune_recipe: Any
    seed: int

    def __call__(self, candidate: Candidate) -> bytes:
        """:meth:`Trained.to_bytes` of ``candidate``."""
        started = time.perf_counter()
        try:
            network = self.network(candidate)
        except InvalidInputError as error:  # the model itself was checked before: this is the candidate's own
            return Trained(math.nan, None, str(error), time.perf_counter() - started).to_bytes()
        score = accuracy(network.predict(self.data.validation_x), self.data.validation_y)
        return Trained(score, network, "", time.perf_counter() - started).to_bytes()

    def network(self, candidate: Candidate) -> IntegerNetwork:
        """The network of ``candidate``."""
        model, data = self.model, self.data
        if candidate.keep:
            model = prune(model, data, keep=dict(candidate.keep), recipe=self.prune_recipe, seed=self.seed)
        widths = dict(candidate.weight_bits)
        if not candidate.epochs:
            return quantize(model, data.calibration_x, bits=candidate.bits, weight_bits=widths)

        recipe = replace(self.tune_recipe, epochs=candidate.epochs)
        return quantize_aware(model, data, bits=candidate.bits, weight_bits=widths, recipe=recipe, seed=self.seed)


def _weighted(network: IntegerNetwork) -> list[str]:
    """Names of the layers that have weights."""
    return [layer.name for layer in network.layers if layer.op not in PLAIN_OPS]


def _example(model: Any, data: Dataset) -> Any:
    """An input for ``model``, of zeros: [2, C, H, W]."""
    return next(model.parameters()).new_zeros((2, *data.input_shape))


def weights_bit(network: IntegerNetwork) -> int:
    """Bits of all weights at their own widths."""
    return sum(
        layer.weight.size * (layer.weight_bits or network.bits) for layer in network.layers if layer.op not in PLAIN_OPS
    )


def digest_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """sha256 over names, types, shapes and values."""
    body = hashlib.sha256()
    for name, array in arrays.items():
        body.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        body.update(np.ascontiguousarray(array).tobytes())
    return body.hexdigest()


def _written(network: IntegerNetwork) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return network.save(Path(folder) / "network.npz").read_bytes()


def _read(content: bytes) -> IntegerNetwork:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.npz"
        path.write_bytes(content)
        return IntegerNetwork.load(path)
