"""What a co-simulation found, in words and rows: the first difference bit by bit, and cycles by instruction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Instructions listed one by one; of longer programs the first, and those that differ.
LISTED = 500
#: Widths in which a number of the datapath is written.
_WIDTHS = (8, 16, 32, 64)


def binary(value: int, width: int) -> str:
    """``value`` in two's complement, in groups of four bits.

    >>> binary(-3, 8)
    '1111 1101'
    """
    bits = format(value & ((1 << width) - 1), f"0{width}b")
    return " ".join(bits[at : at + 4] for at in range(0, width, 4))


def width_of(*values: int) -> int:
    """The least usual width that holds all ``values`` in two's complement."""
    need = max((value if value >= 0 else ~value).bit_length() + 1 for value in values)
    return next((width for width in _WIDTHS if width >= need), need)


def difference(report: Any) -> dict[str, Any] | None:
    """The first value that differs: where it is, what it should be, and its bits; ``None`` without one."""
    found = report.first_mismatch
    if found is None:
        return None
    width = width_of(found.expected, found.got)
    changed = found.expected ^ found.got
    bits = [at for at in range(width) if changed >> at & 1]
    mine = [one for one in report.schedule if one.layer == found.layer]
    rows = [
        {"term": "Input", "value": f"number {found.vector}, counted from 0"},
        {"term": "Layer", "value": found.layer},
        {"term": "Element", "value": f"channel {found.channel}, row {found.y}, column {found.x}"},
    ]
    if mine:
        rows.append({"term": "Instructions", "value": _which(mine)})
    rows.append({"term": "Cycles", "value": f"{found.first_cycle:,} to {found.last_cycle:,} of the inference"})
    return {
        "rows": rows,
        "values": [
            {"name": "Expected", "value": str(found.expected), "bits": binary(found.expected, width)},
            {"name": "Got", "value": str(found.got), "bits": binary(found.got, width)},
            {
                "name": "Differ",
                "value": _bits(bits),
                "bits": binary(changed, width).replace("0", "·").replace("1", "↑"),
            },
        ],
        "words": f"Up to here everything agrees: the layers before {found.layer} are equal in every element, and in "
        f"{found.layer} this is the first element that is not.",
    }


def _bits(bits: Sequence[int]) -> str:
    """Which bits differ.

    >>> _bits([0, 3])
    'bits 0, 3'
    """
    return f"bit{'s' if len(bits) != 1 else ''} {', '.join(map(str, bits))}"


def _which(mine: Sequence[Any]) -> str:
    """The instructions of a layer: their addresses, and how many there are of each operation."""
    count: dict[str, int] = {}
    for one in mine:
        op = one.instruction.split()[0]
        count[op] = count.get(op, 0) + 1
    told = ", ".join(f"{many} {op}" if many > 1 else op for op, many in count.items())
    first, last = mine[0].address, mine[-1].address
    return f"address {first}: {told}" if first == last else f"addresses {first} to {last}: {told}"


def slipped(report: Any) -> list[dict[str, str]] | None:
    """The first instruction that took another time than predicted; ``None`` without one."""
    found = report.first_instruction
    if found is None:
        return None
    took = "it never came to its end" if found.got is None else f"{found.got:,} on the RTL"
    run = "the boot, which loads the weights" if found.vector < 0 else f"input {found.vector}"
    return [
        {"term": "Run", "value": run},
        {"term": "Layer", "value": found.layer},
        {"term": "Instruction", "value": f"address {found.address}: {found.instruction}"},
        {"term": "Begins", "value": f"in cycle {found.cycle:,}"},
        {"term": "Cycles", "value": f"{found.expected:,} predicted, {took}"},
    ]


def layers_of(schedule: Sequence[Any]) -> list[dict[str, Any]]:
    """One row a layer, in order: instructions, cycles predicted and on the RTL, and how many instructions differ."""
    rows: dict[str, list[int]] = {}
    for one in schedule:
        row = rows.setdefault(one.layer, [0, 0, 0, 0])
        for at, add in enumerate((1, one.expected, one.got, one.expected != one.got)):
            row[at] += add
    return [{"name": name, "row": row} for name, row in rows.items()]


def lines_of(schedule: Sequence[Any]) -> list[list[Any]]:
    """[address, layer, instruction, begin, expected, got] of the instructions to list, in order."""
    first = set(range(LISTED))
    differ = [at for at, one in enumerate(schedule) if one.expected != one.got and at not in first][:LISTED]
    chosen = [*range(min(LISTED, len(schedule))), *differ]
    return [
        [one.address, one.layer, one.instruction, one.begin, one.expected, one.got]
        for one in (schedule[at] for at in chosen)
    ]
