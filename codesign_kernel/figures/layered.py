"""Where the nodes of a network's graph stand: in rows, so that every edge runs downwards, and in lanes beside one
another, so that no edge runs through a node that it does not join."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from codesign_kernel.errors import InvalidInputError

#: An edge with no row in between: it needs no lane.
DIRECT = -1


class Placed(NamedTuple):
    """rows, lanes: of each node, from 0. routes: for each edge the lane in which it runs down through the rows between
    its ends, or DIRECT. width: lanes in use."""

    rows: tuple[int, ...]
    lanes: tuple[int, ...]
    routes: tuple[int, ...]
    width: int


def place(nodes: int, edges: Sequence[tuple[int, int]]) -> Placed:
    """A place for each of so many nodes, numbered in the order of execution.

    A node stands in the row below the lowest of those that it reads. A chain of nodes shares a lane, the longest the
    first; what skips rows runs in a lane of its own, one for all readers of a node, as near to the first as is free.

    Args:
        edges: (producer, consumer), the first the lesser number.

    Raises:
        InvalidInputError: an edge that does not run from a node to a later one.
    """
    wrong = [edge for edge in edges if not 0 <= edge[0] < edge[1] < nodes]
    if wrong:
        raise InvalidInputError(f"edges run from a node to a later one of {nodes}, but {wrong[0]} does not")
    rows = _rows(nodes, edges)
    chain, before, tails = _chains(nodes, edges, rows)
    spans: dict[object, list[int]] = {}
    for node in range(nodes):
        _stretch(spans, chain[node], rows[node], rows[node])
    keys = [_carrier(a, b, rows, chain, before, tails) for a, b in edges]
    for (a, b), key in zip(edges, keys, strict=True):
        if key is not None:
            _stretch(spans, key, rows[a] + 1, rows[b] - 1)
    lanes = _lanes(spans, Counter[object](chain))
    routes = tuple(DIRECT if key is None else lanes[key] for key in keys)
    return Placed(tuple(rows), tuple(lanes[one] for one in chain), routes, max(lanes.values(), default=-1) + 1)


def _rows(nodes: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    rows, first = [0] * nodes, [nodes] * nodes
    fed = set()
    for a, b in sorted(edges, key=lambda edge: edge[1]):
        rows[b] = max(rows[b], rows[a] + 1)
        fed.add(b)
    for a, b in edges:
        first[a] = min(first[a], rows[b])
    # what reads the network's input alone stands close to where it is needed
    return [first[n] - 1 if n not in fed and first[n] < nodes else rows[n] for n in range(nodes)]


def _chains(nodes: int, edges: Sequence[tuple[int, int]], rows: Sequence[int]) -> tuple[list[int], list[int], set[int]]:
    """For each node its chain, by the chain's first node, and the node before it there (itself at the first); the last
    nodes of chains."""
    producers: list[list[int]] = [[] for _ in range(nodes)]
    for a, b in edges:
        producers[b].append(a)
    chain, before = list(range(nodes)), list(range(nodes))
    tails: set[int] = set()
    for node in range(nodes):
        free = [a for a in producers[node] if a in tails]
        if free:
            before[node] = max(free, key=lambda a: (rows[a], -chain[a]))
            chain[node] = chain[before[node]]
            tails.discard(before[node])
        tails.add(node)
    return chain, before, tails


def _carrier(
    a: int, b: int, rows: Sequence[int], chain: Sequence[int], before: Sequence[int], tails: set[int]
) -> object | None:
    """Whose lane an edge runs in: a chain's, that of all edges of its producer that skip, or None for no lane."""
    if rows[b] - rows[a] == 1:
        return None
    if a in tails or before[b] == a:
        return chain[a]
    return chain[b] if before[b] == b else ("skip", a)


def _stretch(spans: dict[object, list[int]], key: object, first: int, last: int) -> None:
    span = spans.setdefault(key, [first, last])
    span[:] = [min(span[0], first), max(span[1], last)]


def _lanes(spans: Mapping[object, Sequence[int]], lengths: Mapping[object, int]) -> dict[object, int]:
    """A lane for each span, so that spans that share a row do not share a lane."""
    longest = max(spans, key=lambda key: lengths.get(key, 0), default=None)
    order = sorted(spans, key=lambda key: (key != longest, spans[key][0], -lengths.get(key, 0)))
    taken: list[list[Sequence[int]]] = []
    lanes: dict[object, int] = {}
    for key in order:
        first, last = spans[key]
        free = (n for n, used in enumerate(taken) if all(last < a or b < first for a, b in used))
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append(spans[key])
        lanes[key] = lane
    return lanes
