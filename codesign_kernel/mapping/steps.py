"""Steps: what the accelerator runs as one, found from the shapes and edges of a workload.

A step is a convolution or a matrix product together with the ReLU and the max pooling that follow it: these cost
nothing but the walk over the pooling windows. Batch normalisation right behind a convolution is folded into its
weights. Everything else has no place on this datapath and is counted, not costed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.workload import Layer, Workload

#: Operators that the array runs.
STEPS = frozenset({"conv2d", "linear", "matmul"})


@dataclass(frozen=True)
class Step:
    """One pass of the accelerator over a feature map. All in elements.

    Attributes:
        layer: the operator that does the MACs.
        channels_in, channels_out: of all groups together.
        groups: independent blocks of channels.
        height, width: of the input map, as stored.
        filter_height, filter_width, stride, padding, dilation: of the window.
        pool: side of the max pooling window (1 without); stride equal to the side.
        out_height, out_width: of the map that is stored, after pooling.
        repeat: how often the step runs with other data: the batch, and the GEMMs of a batched matrix product.
        streamed: the stationary operand is an activation, so it comes from outside every time.
        from_previous: the input is exactly what the step before stored.
        to_next: the result is read by the next step and by nothing else.
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
    from_previous: bool = False
    to_next: bool = False

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns that a filter covers with its dilation."""
        return (self.filter_height - 1) * self.dilation[0] + 1, (self.filter_width - 1) * self.dilation[1] + 1

    @property
    def taps(self) -> int:
        """Positions of the filter."""
        return self.filter_height * self.filter_width


def _fused(workload: Workload) -> tuple[dict[str, int], dict[str, str], Counter[str]]:
    """(pool by MAC layer, the MAC layer whose result a layer's output is, operators that fit nowhere)."""
    layers = {layer.name: layer for layer in workload.layers}
    readers: dict[str, list[str]] = {name: [] for name in layers}
    sources: dict[str, list[str]] = {name: [] for name in layers}
    for producer, consumer in workload.edges:
        readers[producer].append(consumer)
        sources[consumer].append(producer)
    pool: dict[str, int] = {}
    origin: dict[str, str] = {}
    left: Counter[str] = Counter(workload.uncosted)
    for layer in workload.layers:
        if layer.op in STEPS:
            pool[layer.name] = 1
            origin[layer.name] = layer.name
            continue
        before = sources[layer.name][0] if len(sources[layer.name]) == 1 else None
        mine = origin.get(before) if before is not None and len(readers[before]) == 1 else None
        square = layer.FY == layer.FX and layer.stride == (layer.FY, layer.FX)
        square = square and layer.padding == (0, 0) and layer.dilation == (1, 1)
        # windows that hang over the edge (ceil mode) are not walked
        square = square and (layer.OY, layer.OX) == (layer.IY // layer.FY, layer.IX // layer.FX)
        if mine is not None and layer.op == "batch_norm" and before == mine and layers[mine].op == "conv2d":
            origin[layer.name] = mine  # folded into the weights
        elif mine is not None and layer.op == "relu":
            origin[layer.name] = mine
        elif (
            mine is not None and layer.op == "max_pool2d" and square and layers[mine].op == "conv2d" and pool[mine] == 1
        ):
            pool[mine] = layer.FY
            origin[layer.name] = mine
        else:
            left[layer.op] += 1
    return pool, origin, left


def _step(layer: Layer, pool: int, source: Step | None) -> Step:
    """``layer`` as a step; ``source`` is the step whose result is its only input."""
    repeat, groups, height, width, out_height, out_width = layer.B, layer.G, layer.IY, layer.IX, layer.OY, layer.OX
    channels, fy, fx = layer.C, layer.FY, layer.FX
    if layer.op == "matmul":
        repeat, groups = repeat * groups, 1
    if layer.op != "conv2d":
        # rows of a matrix product are independent: walk them down, so that any number of them can be cut
        repeat, out_height, out_width = repeat * layer.steps, out_height * out_width // layer.steps, 1
        height, width = out_height, 1
    flat = source is not None and layer.op == "linear" and out_height == 1
    if flat and source is not None and channels == source.channels_out * source.out_height * source.out_width:
        # a flattened map is read as it was stored: the layer is a convolution as large as the map
        channels, height, width = source.channels_out, source.out_height, source.out_width
        fy, fx = height, width
    if out_height < pool or out_width < pool:
        raise InvalidInputError(
            f"a pooling window fits its map, but {layer.name!r} pools {pool}x{pool} over {out_height}x{out_width}"
        )
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
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        pool=pool,
        out_height=out_height // pool,
        out_width=out_width // pool,
        repeat=repeat,
        streamed=layer.op == "matmul",
    )


def steps_of(workload: Workload) -> tuple[tuple[Step, ...], dict[str, int]]:
    """The steps of ``workload`` in order, and the operators (with their number) that are no part of one.

    Raises:
        InvalidInputError: nothing in the workload does MACs, or a pooling window is larger than its map.
    """
    pool, origin, left = _fused(workload)
    if not pool:
        raise InvalidInputError(f"a workload has at least one operator that does MACs, but {workload.name!r} has none")
    by_name = {layer.name: layer for layer in workload.layers}
    sources: dict[str, list[str]] = {}
    readers: Counter[str] = Counter()
    outside: set[str] = set()
    for producer, consumer in workload.edges:
        if origin.get(consumer) == origin.get(producer) is not None and consumer not in pool:
            continue  # inside a step
        mine = origin.get(producer)
        if mine is None:
            continue
        readers[mine] += 1
        if consumer in pool:
            sources.setdefault(consumer, []).append(mine)
        else:
            outside.add(mine)
    inputs = Counter(consumer for _, consumer in workload.edges)
    steps: list[Step] = []
    for name, window in pool.items():
        previous = steps[-1] if steps else None
        own = sources.get(name, [])
        direct = previous is not None and own == [previous.layer.name] and inputs[name] == 1
        step = _step(by_name[name], window, previous if direct else None)
        if direct and previous is not None and not step.streamed and previous.repeat == step.repeat:
            same = previous.channels_out == step.channels_in and (previous.out_height, previous.out_width) == (
                step.height,
                step.width,
            )
            step = replace(step, from_previous=same)
            alone = readers[previous.layer.name] == 1 and previous.layer.name not in outside
            steps[-1] = replace(previous, to_next=same and alone)
        steps.append(step)
    return tuple(steps), dict(left)
