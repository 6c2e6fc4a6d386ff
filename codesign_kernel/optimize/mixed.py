"""Mixed precision: a width for each layer's weights, so that what a network costs buys the most accuracy."""

from __future__ import annotations

import math
import numbers
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from torch import nn

from codesign_kernel.errors import EvaluationError, InvalidInputError
from codesign_kernel.optimize.calibration import Calibration
from codesign_kernel.optimize.dataset import Dataset, check_parts
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.optimize.narrowing import Judge, Measured, layers_with_weights, narrow_widths
from codesign_kernel.optimize.qat import check_classes, quantize_aware
from codesign_kernel.optimize.training import Progress, Recipe, check_recipe, check_seed

Cost = Callable[[IntegerNetwork], float]
_Genes = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Assignment:
    """A network with widths of its own.

    Attributes:
        weight_bits: of each layer with weights, by name (bit).
        measured: on validation data.
        cost: what the cost function says of it.
        network: the integers.
        trained: whether it comes from quantisation-aware training.
    """

    weight_bits: Mapping[str, int]
    measured: Measured
    cost: float
    network: IntegerNetwork
    trained: bool = False

    @property
    def accuracy(self) -> float:
        """Share of the validation inputs whose class it gets right."""
        return self.measured.accuracy

    def __repr__(self) -> str:
        widths = " ".join(f"{name}:{width}" for name, width in self.weight_bits.items())
        how = "trained" if self.trained else "rounded"
        return f"Assignment({widths}, {how}: accuracy {100 * self.accuracy:.1f} %, cost {self.cost:,.6g})"


@dataclass(frozen=True, eq=False)
class MixedPrecision:
    """What :func:`mixed_precision` found.

    Attributes:
        front: the assignments that no other of the same kind - rounded, or trained if there was training - matches in
            accuracy for less, the cheapest first.
        tried: all that were measured, in the order of the search; trained ones last.
        exhaustive: whether every assignment was tried.
    """

    front: tuple[Assignment, ...]
    tried: tuple[Assignment, ...]
    exhaustive: bool

    def __repr__(self) -> str:
        """The front, one assignment a line."""
        how = "all that there are" if self.exhaustive else "by search"
        lines = [f"MixedPrecision: {len(self.tried):,} measured ({how}), {len(self.front)} on the front"]
        return "\n  ".join([*lines, *map(repr, self.front)])


def front_of(assignments: Iterable[Assignment]) -> tuple[Assignment, ...]:
    """Those that no other one matches in accuracy for less, the cheapest first; of equals the lower cross entropy."""
    front: list[Assignment] = []
    for one in sorted(assignments, key=lambda a: (a.cost, -a.accuracy, a.measured.cross_entropy)):
        if not front or one.accuracy > front[-1].accuracy:
            front.append(one)
    return tuple(front)


def mixed_precision(
    model: nn.Module,
    data: Dataset,
    cost: Cost,
    bits: int = 8,
    widths: Sequence[int] | None = None,
    budget: int = 200,
    qat: Recipe | None = None,
    trained: int = 12,
    seed: int = 0,
    progress: Progress | None = None,
) -> MixedPrecision:
    """Search for the widths of each layer's weights that trade accuracy against ``cost`` best.

    Where ``budget`` allows all assignments, all are tried. Else every layer is narrowed alone, from the widest width;
    then step by step together, the step first that costs the least cross entropy for what it saves; and the rest of the
    budget goes to networks that differ from one of the front by a width of one or two layers, drawn at random.

    Args:
        model: as for :func:`codesign_kernel.quantize`, ending in a Linear with one result for each class.
        data: calibrates on its calibration part, measures on its validation part and, with ``qat``, trains on its
            training part; the test part is not read.
        cost: of an integer network, a finite number, less is better: bytes of weights, a latency, an energy.
        bits: of maps: 4, 8 or 16.
        widths: that weights may have: different ones of 2, 4, 8 and 16, at most ``bits``; without, 2, 4 and 8 as far.
        budget: networks that are rounded and measured, at least 1. Narrowing layers together begins after one network
            for each layer and width, so fewer than these find little.
        qat: with it, networks of the front are trained further, each as by :func:`codesign_kernel.quantize_aware`, and
            the result's front is that of the trained ones.
        trained: how many at most, evenly along the front with both its ends.
        seed: of what is drawn at random, and of the training.
        progress: called with (networks done, budget, message).

    Raises:
        InvalidInputError, UnsupportedLayerError: as for :func:`codesign_kernel.quantize`, or an argument breaks a law.
        EvaluationError: ``cost`` gave what is no finite number.
        MissingPackageError: ``qat`` is given and torchao is not installed.
    """
    for name, value in (("budget", budget), ("trained", trained)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInputError(f"{name} is an integer >= 1, but got {value!r}")
    if not callable(cost):
        raise InvalidInputError(f"cost is a function of an IntegerNetwork, such as weight_bytes, but got {cost!r}")
    check_seed(seed)
    check_parts(data, "calibration", "validation", *(["train"] if qat is not None else []))
    if qat is not None:
        check_recipe(qat)
    calibration = Calibration(model, data.calibration_x, bits)
    check_classes(calibration, data)
    legal = narrow_widths([w for w in (2, 4, 8) if w <= bits] if widths is None else widths, bits)
    search = _Search(calibration, Judge(calibration, data), cost, legal, budget, progress)
    exhaustive = len(search.widths) ** len(search.names) <= budget
    if exhaustive:
        for genes in product(range(len(search.widths)), repeat=len(search.names)):
            search.measure(genes)
    else:
        search.descend()
        search.wander(random.Random(int(seed)))
    tried = list(search.seen.values())
    front = front_of(tried)
    if qat is not None:
        again = []
        for done, one in enumerate(_spread(front, trained), 1):
            network = quantize_aware(model, data, bits, one.weight_bits, qat, seed)
            again.append(Assignment(one.weight_bits, search.judge(network), _paid(cost, network), network, True))
            if progress is not None:
                progress(done, min(trained, len(front)), "training")
        tried += again
        front = front_of(again)
    return MixedPrecision(front, tuple(tried), exhaustive)


class _Search:
    """What has been measured so far; an assignment is a tuple of places in ``widths``, one for each layer."""

    def __init__(
        self,
        calibration: Calibration,
        judge: Judge,
        cost: Cost,
        widths: list[int],
        budget: int,
        progress: Progress | None,
    ) -> None:
        self.calibration, self.judge, self.cost, self.widths = calibration, judge, cost, widths
        self.names = layers_with_weights(calibration)
        self.seen: dict[_Genes, Assignment] = {}
        self.budget, self._progress = budget, progress

    @property
    def spent(self) -> bool:
        """Whether the budget is."""
        return len(self.seen) >= self.budget

    def measure(self, genes: _Genes) -> Assignment | None:
        """The assignment, measured once; None if it is new and the budget is spent."""
        if genes not in self.seen:
            if self.spent:
                return None
            weight_bits = {name: self.widths[gene] for name, gene in zip(self.names, genes, strict=True)}
            network = self.calibration.network(weight_bits)
            self.seen[genes] = Assignment(weight_bits, self.judge(network), _paid(self.cost, network), network)
            if self._progress is not None:
                self._progress(len(self.seen), self.budget, "measuring")
        return self.seen[genes]

    def descend(self) -> None:
        """From the widest weights of all to the narrowest, each time the step that hurts least for what it saves."""
        genes = (len(self.widths) - 1,) * len(self.names)
        start = self.measure(genes)
        alone = {}  # (layer, width) -> (loss added, cost saved) where only this layer is narrowed
        for layer in range(len(genes)):
            for gene in range(genes[layer]):
                found = self.measure(_with(genes, {layer: gene}))
                if start is None or found is None:
                    return
                alone[layer, gene] = (
                    found.measured.cross_entropy - start.measured.cross_entropy,
                    start.cost - found.cost,
                )

        def price(layer: int, gene: int) -> tuple[float, float]:
            """Loss for what is saved; where nothing is, as of a memory of few sizes, the loss alone decides."""
            hurt, saved = (new - old for new, old in zip(alone[layer, gene], before(layer, gene), strict=True))
            return (hurt / saved if saved > 0 else math.inf), hurt

        def before(layer: int, gene: int) -> tuple[float, float]:
            return alone.get((layer, gene + 1), (0.0, 0.0))

        while any(genes):
            steps = [(price(layer, gene - 1), layer) for layer, gene in enumerate(genes) if gene]
            _, layer = min(steps)
            genes = _with(genes, {layer: genes[layer] - 1})
            if self.measure(genes) is None:
                return

    def wander(self, draw: random.Random) -> None:
        """The neighbours of the front, until the budget is spent or all of them are known."""
        while not self.spent:
            known = {id(one): genes for genes, one in self.seen.items()}
            front = [known[id(one)] for one in front_of(self.seen.values())]
            fresh = sorted({near for genes in front for near in self._near(genes)} - set(self.seen))
            if not fresh:
                return
            for genes in draw.sample(fresh, min(len(fresh), len(front))):
                self.measure(genes)

    def _near(self, genes: _Genes) -> Iterator[_Genes]:
        """One layer a width up or down, or one up and another down."""
        up = [layer for layer, gene in enumerate(genes) if gene < len(self.widths) - 1]
        down = [layer for layer, gene in enumerate(genes) if gene > 0]
        for layer in up:
            yield _with(genes, {layer: genes[layer] + 1})
        for layer in down:
            yield _with(genes, {layer: genes[layer] - 1})
        for one in up:
            for other in down:
                if one != other:
                    yield _with(genes, {one: genes[one] + 1, other: genes[other] - 1})


def _with(genes: _Genes, changed: Mapping[int, int]) -> _Genes:
    return tuple(changed.get(layer, gene) for layer, gene in enumerate(genes))


def _spread(front: Sequence[Assignment], most: int) -> list[Assignment]:
    """At most so many of the front, evenly along it, with both ends."""
    if len(front) <= most:
        return list(front)
    places = {round(i * (len(front) - 1) / max(most - 1, 1)) for i in range(most)} if most > 1 else {len(front) - 1}
    return [front[i] for i in sorted(places)]


def _paid(cost: Cost, network: IntegerNetwork) -> float:
    value = cost(network)
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise EvaluationError(f"the cost of a network is a finite number, but the cost function gave {value!r}")
    return float(value)
