"""Steps: what the accelerator runs as one, found from the shapes and edges of a workload.

A step is a convolution or a matrix product together with the ReLU and the max pooling that follow it: these cost
nothing but the walk over the pooling windows. Batch normalisation right behind a convolution is folded into its
weights. Pooling that does not run with a convolution, and the sum of two maps, are steps of their own. Everything else
has no place on this datapath and is counted, not costed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.workload import Layer, Workload

#: Operators that the array runs.
ARRAY = frozenset({"conv2d", "linear", "matmul"})
#: Clipping that runs with the step before it: at 6 it is the end of the range of the results.
CLIPS = frozenset({"relu", "relu6"})
#: Pooling by what it takes of its windows.
AVERAGES, MAXIMA = frozenset({"avg_pool2d", "adaptive_avg_pool2d", "mean"}), frozenset({"max_pool2d"})
#: Where a step reads what no step made: the network's input, or the result of an operator that is not costed.
OUTSIDE = -1


@dataclass(frozen=True)
class Step:
    """One pass of the accelerator over a feature map. All in elements.

    Attributes:
        layer: the operator that the step is named after.
        channels_in, channels_out: of all groups together.
        groups: independent blocks of channels.
        height, width: of the input map, as stored.
        filter_height, filter_width, stride, padding, dilation: of the window.
        pool: side of the max pooling window behind a convolution (1 without); stride equal to the side.
        out_height, out_width: of the map that is stored, after pooling.
        repeat: how often the step runs with other data: the batch, and the GEMMs of a batched matrix product.
        streamed: the stationary operand is an activation, so it comes from outside every time.
        images: input maps that lie one after the other, each read whole: a flattened map of each item of a batch.
        reads: the steps whose results are read, or ``OUTSIDE``: two for a sum of maps, else one.
        from_previous: one input is exactly what the step before stored.
        to_next: the result is read by the next step, once, and by nothing else.
        from_host: the input is that of the network, and nothing else reads it.
        packed: filter positions (y, x) that the host has put beside each other as channels; (1, 1) without.
    """

    layer: Layer
    channels_in: int
    channels_out: int
    groups: int
    height: int
    width: int
    filter_height: int
    filter_width: int
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    pool: int
    out_height: int
    out_width: int
    repeat: int = 1
    streamed: bool = False
    images: int = 1
    reads: tuple[int, ...] = (OUTSIDE,)
    from_previous: bool = False
    to_next: bool = False
    from_host: bool = False
    packed: tuple[int, int] = (1, 1)

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns that a filter covers with its dilation."""
        return (self.filter_height - 1) * self.dilation[0] + 1, (self.filter_width - 1) * self.dilation[1] + 1

    @property
    def taps(self) -> int:
        """Positions of the filter."""
        return self.filter_height * self.filter_width

    @property
    def on_array(self) -> bool:
        """The step does MACs; else the lanes work on words of the activation memory."""
        return self.layer.op in ARRAY

    @property
    def inputs(self) -> int:
        """Maps that are read."""
        return len(self.reads)

    @property
    def stored(self) -> tuple[int, int, int, int]:
        """The result in memory: maps, channels, rows and columns."""
        return self.repeat, self.channels_out, self.out_height, self.out_width


@dataclass
class _Steps:
    """The steps so far.

    Attributes:
        made: the step whose result a layer's output is, by the layer's name.
        left: operators that are no part of a step.
        sources, readers: names by layer; an edge that occurs twice counts twice.
        entry: (channels, rows, columns) of the network's input; None where it is read as a vector or not at all.
    """

    layers: dict[str, Layer]
    sources: dict[str, list[str]]
    readers: dict[str, list[str]]
    entry: tuple[int, int, int] | None
    left: Counter[str]
    steps: list[Step] = field(default_factory=list)
    made: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, workload: Workload) -> _Steps:
        """Nothing but the edges and the shape of the input."""
        layers = {layer.name: layer for layer in workload.layers}
        sources: dict[str, list[str]] = {name: [] for name in layers}
        readers: dict[str, list[str]] = {name: [] for name in layers}
        for producer, consumer in workload.edges:
            readers[producer].append(consumer)
            sources[consumer].append(producer)
        maps = ("conv2d", *AVERAGES, *MAXIMA)
        first = next((x for x in workload.layers if x.op in maps and not sources[x.name]), None)
        entry = None if first is None else (first.G * first.C, first.IY, first.IX)
        return cls(layers, sources, readers, entry, Counter(workload.uncosted))

    def add(self, layer: Layer) -> None:
        """``layer`` as a part of the step before it, as a step of its own, or left."""
        if layer.op in ARRAY:
            step: Step | None = self.product(layer)
        elif self.fused(layer):
            return
        elif layer.op == "add":
            step = self.sum(layer)
        else:
            step = self.pooling(layer)
        if step is None:
            self.left[layer.op] += 1
            return
        self.made[layer.name] = len(self.steps)
        self.steps.append(step)

    def fused(self, layer: Layer) -> bool:
        """Whether ``layer`` runs with the step whose result it alone reads."""
        before = self.sources[layer.name]
        if len(before) != 1 or before[0] not in self.made or len(self.readers[before[0]]) != 1:
            return False
        at = self.made[before[0]]
        step = self.steps[at]
        if layer.op == "batch_norm":  # folded into the weights
            found = step.layer.op == "conv2d" and step.layer.name == before[0]
        elif layer.op in MAXIMA and step.layer.op == "conv2d" and step.pool == 1:
            found = _in_windows(layer)
            if found:
                self.steps[at] = _pooled(step, layer.FY)
        else:
            found = layer.op in CLIPS
        if found:
            self.made[layer.name] = at
        return found

    def product(self, layer: Layer) -> Step:
        """A convolution or a matrix product."""
        before = self.sources[layer.name]
        at = self.made.get(before[0], OUTSIDE) if len(before) == 1 else OUTSIDE
        stored = self.steps[at].stored[1:] if at != OUTSIDE else None
        if not before:
            stored = self.entry
        return replace(_step(layer, stored), reads=(at,))

    def pooling(self, layer: Layer) -> Step | None:
        """Pooling on its own, of a map that a step made or of the network's input."""
        before = self.sources[layer.name]
        at = self.made.get(before[0]) if len(before) == 1 else OUTSIDE if not before else None
        if at is None or not _is_pooling(layer):
            return None
        read = (layer.B, layer.C, layer.IY, layer.IX)
        if at != OUTSIDE and self.steps[at].stored != read:
            return None
        return replace(_plain(layer, layer.IY, layer.IX, layer.OY, layer.OX), reads=(at,))

    def sum(self, layer: Layer) -> Step | None:
        """The sum of two maps as large as the result, of which one can be the network's input."""
        before = self.sources[layer.name]
        if not 1 <= len(before) <= 2 or any(name not in self.made for name in before):
            return None
        reads = tuple(self.made[name] for name in before)
        shape = (layer.B, layer.K, layer.OY, layer.OX)
        if len(before) == 1:
            # a number is added, unless the network's input has the shape for it
            if self.entry != shape[1:]:
                return None
            reads = (*reads, OUTSIDE)
        stored = [self.steps[at].stored for at in reads if at != OUTSIDE]
        rows = (1, layer.K, layer.B * layer.OY * layer.OX, 1)
        if all(other == shape for other in stored):
            step = _plain(layer, layer.OY, layer.OX, layer.OY, layer.OX)
        elif all(other == rows for other in stored) and len(before) == 2:
            step = replace(_plain(layer, rows[2], 1, rows[2], 1), repeat=1)
        else:
            return None
        return replace(step, filter_height=1, filter_width=1, stride=(1, 1), padding=(0, 0), reads=reads)

    def linked(self) -> tuple[Step, ...]:
        """The steps with what each has from and for its neighbours."""
        read: Counter[int] = Counter()
        for name, consumers in self.readers.items():
            if name in self.made:
                own = self.made[name]
                read[own] += sum(self.made.get(consumer) != own for consumer in consumers)
        entered = [name for name, before in self.sources.items() if not before]
        entered += [step.layer.name for step in self.steps if step.inputs == 2 and OUTSIDE in step.reads]
        steps = list(self.steps)
        for i, step in enumerate(steps):
            steps[i] = step = replace(step, from_host=entered == [step.layer.name])
            before = steps[i - 1]
            if i == 0 or i - 1 not in step.reads or step.streamed or step.repeat != before.repeat:
                continue
            if before.stored[1:] == (step.channels_in, step.height, step.width):
                steps[i] = replace(step, from_previous=True)
                steps[i - 1] = replace(before, to_next=read[i - 1] == 1)
        return tuple(steps)


def _in_windows(layer: Layer) -> bool:
    """Whether pooling takes square windows side by side."""
    square = layer.FY == layer.FX and layer.stride == (layer.FY, layer.FX)
    plain = layer.padding == (0, 0) and layer.dilation == (1, 1)
    # windows that hang over the edge (ceil mode) are not walked
    return square and plain and (layer.OY, layer.OX) == (layer.IY // layer.FY, layer.IX // layer.FX)


def _is_pooling(layer: Layer) -> bool:
    """Whether ``layer`` pools each channel over windows of one size that do not hang over the padded map."""
    if layer.op not in AVERAGES | MAXIMA or layer.dilation != (1, 1) or layer.C != layer.K or layer.G != 1:
        return False
    if layer.op.startswith("adaptive") and (layer.IY % layer.OY or layer.IX % layer.OX):
        return False  # windows of several sizes
    sides = zip(
        (layer.IY, layer.IX), (layer.OY, layer.OX), (layer.FY, layer.FX), layer.stride, layer.padding, strict=True
    )
    return all(pad < size and (side + 2 * pad - size) // step + 1 == out for side, out, size, step, pad in sides)


def _plain(layer: Layer, height: int, width: int, out_height: int, out_width: int) -> Step:
    """A step without MACs, in which each channel makes one of the result."""
    return Step(
        layer=layer, channels_in=layer.K, channels_out=layer.K, groups=layer.K, height=height, width=width,
        filter_height=layer.FY, filter_width=layer.FX, stride=layer.stride, padding=layer.padding, dilation=(1, 1),
        pool=1, out_height=out_height, out_width=out_width, repeat=layer.B,
    )  # fmt: skip


def _pooled(step: Step, side: int) -> Step:
    """``step`` with max pooling behind it."""
    height, width = step.out_height, step.out_width
    if min(height, width) < side:
        raise InvalidInputError(
            f"a pooling window fits its map, but {step.layer.name!r} pools {side}x{side} over {height}x{width}"
        )
    return replace(step, pool=side, out_height=height // side, out_width=width // side)


def _step(layer: Layer, stored: tuple[int, int, int] | None) -> Step:
    """``layer`` as a step; ``stored`` is the map that is its only input: channels, rows and columns."""
    repeat, groups, height, width, out_height, out_width = layer.B, layer.G, layer.IY, layer.IX, layer.OY, layer.OX
    channels, fy, fx, stride, images = layer.C, layer.FY, layer.FX, layer.stride, 1
    if layer.op == "matmul":
        repeat, groups = repeat * groups, 1
    if layer.op != "conv2d":
        # rows of a matrix product are independent: walk them down, so that any number of them can be cut
        repeat, out_height, out_width = repeat * layer.steps, out_height * out_width // layer.steps, 1
        flat = layer.op == "linear" and out_height == layer.steps == 1
        if layer.op == "linear":  # items of a batch are rows too
            repeat, out_height = layer.steps, out_height * layer.B
        height, width = out_height, 1
        if flat and stored is not None and channels == stored[0] * stored[1] * stored[2]:
            # a flattened map is read as it was stored: the layer is a convolution as large as the map, or a row of
            # such maps under a filter that goes from one to the next
            channels, fy, fx = stored
            height, width, stride, images = layer.B * fy, fx, (fy, 1), layer.B
    if layer.padding[0] > (fy - 1) * layer.dilation[0] or layer.padding[1] > (fx - 1) * layer.dilation[1]:
        raise InvalidInputError(
            f"padding is smaller than the filter, but {layer.name!r} pads {layer.padding} around {fy}x{fx}"
        )
    return Step(
        layer=layer,
        channels_in=groups * channels,
        channels_out=groups * layer.K,
        groups=groups,
        height=height,
        width=width,
        filter_height=fy,
        filter_width=fx,
        stride=stride,
        padding=layer.padding,
        dilation=layer.dilation,
        pool=1,
        out_height=out_height,
        out_width=out_width,
        repeat=repeat,
        streamed=layer.op == "matmul",
        images=images,
    )


def steps_of(workload: Workload) -> tuple[tuple[Step, ...], dict[str, int]]:
    """The steps of ``workload`` in order, and the operators (with their number) that are no part of one.

    Raises:
        InvalidInputError: nothing in the workload does MACs, or a pooling window is larger than its map.
    """
    found = _Steps.of(workload)
    for layer in workload.layers:
        found.add(layer)
    if not any(step.on_array for step in found.steps):
        raise InvalidInputError(f"a workload has at least one operator that does MACs, but {workload.name!r} has none")
    return found.linked(), dict(found.left)


def together(steps: tuple[Step, ...]) -> bool:
    """Whether one run of the program serves the whole batch: fully connected layers take its items as rows."""
    return any(step.layer.op == "linear" and step.layer.B > 1 for step in steps)


def runs_of(steps: tuple[Step, ...]) -> int:
    """How often the program runs for the batch, each time with its HALT."""
    return 1 if together(steps) else max(step.layer.B for step in steps)
