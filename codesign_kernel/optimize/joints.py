"""How the layers of a network are joined: the numbers of the maps that each one reads, and the laws of that."""

from __future__ import annotations

from collections.abc import Sequence

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.layer import INPUT, IntegerLayer


def sources_of(layers: Sequence[IntegerLayer]) -> tuple[tuple[int, ...], ...]:
    """For each layer the numbers of the layers whose maps it reads; -1 is the network's input.

    Raises:
        InvalidInputError: two layers have one name, or a layer reads one that is not before it.
    """
    place = {INPUT: -1}
    sources = []
    for i, layer in enumerate(layers):
        unknown = [name for name in layer.reads if name not in place]
        if unknown:
            raise InvalidInputError(
                f"a layer reads {INPUT!r} or layers before it, but {layer.name!r} reads {unknown[0]!r}, which is "
                f"{'behind it' if any(unknown[0] == other.name for other in layers[i:]) else 'no layer'}; before it "
                f"are {', '.join(map(repr, place))}"
            )
        if layer.name in place:
            raise InvalidInputError(f"layer names are unique within a network, but {layer.name!r} occurs twice")
        sources.append(tuple(place[name] for name in layer.reads) or (i - 1,))
        place[layer.name] = i
    return tuple(sources)


def check_graph(layers: Sequence[IntegerLayer], sources: Sequence[Sequence[int]], input_scale: float) -> None:
    """Every layer but the last is read, additions add equal scales, and no max pooling stands where it could be fused.

    Raises:
        InvalidInputError: one of these laws is broken; the message names the layer.
    """
    readers = [sum(i in read for read in sources) for i in range(len(layers))]
    for layer, count in zip(layers[:-1], readers, strict=False):
        if not count:
            raise InvalidInputError(
                f"every layer but the last is read by one behind it, but nobody reads {layer.name!r}; take it out, or "
                "name it in the reads of another"
            )
    for layer, read in zip(layers, sources, strict=True):
        scales = [input_scale if source < 0 else layers[source].scale for source in read]
        if len(set(scales)) > 1:
            raise InvalidInputError(
                f"the two maps of an addition have one scale, but {layer.name!r} reads {scales[0]:g} and "
                f"{scales[1]:g}; requantise both layers before it to the same scale"
            )
        before = layers[read[0]] if read[0] >= 0 else None
        if before is not None and before.op == "conv2d" and before.pool == 1 and readers[read[0]] == 1:
            edge = layer.weight.shape[2]
            if layer.op == "max_pool2d" and (layer.weight.shape[3], layer.stride, layer.padding) == (
                edge, (edge, edge), (0, 0),
            ):  # fmt: skip
                raise InvalidInputError(
                    f"a square max pooling that only follows a convolution is that one's pool, but {layer.name!r} is "
                    f"a layer of its own; leave it out and give {before.name!r} pool = {edge}"
                )
