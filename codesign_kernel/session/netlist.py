"""Netlists of yosys as JSON: which block a line of the RTL belongs to, and one module for all equal blocks.

MyHDL writes one flat module whose processes and signals carry the names of their blocks. yosys can put the cells of
each block into a module of its own (``submod``); here equal ones among these become instances of one, so that an array
of any size is synthesised element by element once, and a report can say what each kind of block takes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

#: A block in a name: letters and a number. ``systolic0_pe12_compute`` is the process ``compute`` of two of them.
_STEP = re.compile(r"[a-z]+(?:_[a-z]+)*?\d+(?=_)")
#: Blocks within blocks are told apart down to this depth.
_DEPTH = 2
#: What stands between the steps of a block's name in the name of a module.
_JOIN = "__"
#: The block of everything that lies directly in the top.
TOP_BLOCK = "core"
#: Rounds in which a cell learns of its neighbours, to tell those apart that come from one line.
_ROUNDS = 3

Json = dict[str, Any]


def block_of(name: str) -> str:
    """The block of a process or signal: ``systolic0_pe12_compute`` is of ``systolic0__pe12``."""
    steps: list[str] = []
    position = 0
    while len(steps) < _DEPTH and (found := _STEP.match(name, position)):
        steps.append(found[0])
        position = found.end() + 1
    return _JOIN.join(steps) or TOP_BLOCK


def kind_of(block: str) -> str:
    """The kind of a block, its numbers left out: ``systolic.pe`` for ``systolic0__pe12``."""
    return ".".join(re.sub(r"\d+$", "", step) for step in block.split(_JOIN))


def block_by_line(verilog: str) -> dict[int, str]:
    """Block by line number, for the lines of processes and assignments of Verilog that MyHDL wrote."""
    found: dict[int, str] = {}
    current = None
    for number, line in enumerate(verilog.splitlines(), 1):
        process = re.match(r"always .*begin: (?:CODESIGN_CORE_)?(\w+)", line)
        assigned = re.match(r"assign (\w+)", line)
        if process:
            current = block_of(process[1].lower())
        if assigned:
            found[number] = block_of(assigned[1])
        elif current:
            found[number] = current
        if line == "end":
            current = None
    return found


def share(netlist: Json, top: str) -> Json:
    """``netlist`` with one module for all blocks that are equal, named by their kind.

    Two blocks are equal where their cells can be put in an order in which they are of the same types and parameters
    and are connected in the same way to one another and to the outside. Where no such order is found for equal blocks
    both stay, which costs time and is not wrong.

    Args:
        netlist: as ``write_json`` gives it after ``submod``: the top and, named ``<top>_<block>``, blocks in it.
        top: name of the module that they are in.
    """
    # submod puts cells in the order of addresses: by name, so that every run is alike
    modules: Json = {
        name: {**module, "cells": dict(sorted(module["cells"].items()))}
        for name, module in sorted(netlist["modules"].items())
    }
    instances = modules[top]["cells"]
    by_type = {cell["type"]: cell for cell in instances.values()}
    kept: Json = {}
    known: dict[Any, tuple[str, list[str]]] = {}
    named: dict[str, int] = defaultdict(int)
    for name, module in modules.items():
        if name == top or name not in by_type:
            continue
        _narrow(module, by_type[name])
        shape, ports = _shape(module)
        if shape not in known:
            kind = kind_of(name.removeprefix(f"{top}_"))
            named[kind] += 1
            new = f"{top}_{kind.replace('.', '_')}" + (f"_{named[kind]}" if named[kind] > 1 else "")
            while new in kept or new == top:
                new += "_"
            module["attributes"]["block"] = kind
            kept[new] = module
            known[shape] = new, ports
        new, names = known[shape]
        cell = by_type[name]
        cell["type"] = new
        renamed = dict(zip(ports, names, strict=True))
        for key in ("connections", "port_directions"):
            cell[key] = {renamed[port]: value for port, value in cell[key].items()}
    return {**netlist, "modules": {**kept, top: modules[top]}}


def _narrow(module: Json, instance: Json) -> None:
    """Take the bits that no cell of ``module`` touches out of its ports and out of its one instance."""
    used = {bit for cell in module["cells"].values() for bits in cell["connections"].values() for bit in bits}
    for name, port in list(module["ports"].items()):
        keep = [index for index, bit in enumerate(port["bits"]) if bit in used]
        if keep:
            port["bits"] = [port["bits"][index] for index in keep]
            instance["connections"][name] = [instance["connections"][name][index] for index in keep]
        else:
            del module["ports"][name], instance["connections"][name], instance["port_directions"][name]
    module["netnames"] = {}


def _shape(module: Json) -> tuple[Any, list[str]]:
    """What two equal modules have in common, as one hashable value, and the names of the ports in its order."""
    numbers: dict[int, int] = {}

    def numbered(bits: Iterable[int | str]) -> tuple[int | str, ...]:
        return tuple(bit if isinstance(bit, str) else numbers.setdefault(bit, len(numbers)) for bit in bits)

    cells = tuple(
        (cell["type"], _parameters(cell), tuple((port, numbered(bits)) for port, bits in _connections(cell)))
        for cell in _in_order(list(module["cells"].values()))
    )
    ports = sorted((numbered(port["bits"]), port["direction"], name) for name, port in module["ports"].items())
    return (cells, tuple(port[:2] for port in ports)), [name for *_, name in ports]


def _in_order(cells: list[Json]) -> list[Json]:
    """``cells`` by what they are, where in the source they come from, and what they are connected to."""
    lines = [_line(cell) for cell in cells]
    colours = [
        hash((cell["type"], _parameters(cell), line - min(lines))) for cell, line in zip(cells, lines, strict=True)
    ]
    for _ in range(_ROUNDS):
        touched: dict[int | str, list[int]] = defaultdict(list)
        for cell, colour in zip(cells, colours, strict=True):
            for port, bits in _connections(cell):
                for index, bit in enumerate(bits):
                    touched[bit].append(hash((colour, port, index)))
        nets = {bit: bit if isinstance(bit, str) else hash(tuple(sorted(ends))) for bit, ends in touched.items()}
        colours = [
            hash((colour, *((port, *(nets[bit] for bit in bits)) for port, bits in _connections(cell))))
            for cell, colour in zip(cells, colours, strict=True)
        ]
    return [cell for _, cell in sorted(zip(colours, cells, strict=True), key=lambda pair: pair[0])]


def _parameters(cell: Json) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(cell["parameters"].items()))


def _connections(cell: Json) -> list[tuple[str, list[int | str]]]:
    return sorted(cell["connections"].items())


def _line(cell: Json) -> int:
    """The first line of the source that a cell comes from; 0 where none is told."""
    found = re.search(r":(\d+)", cell["attributes"].get("src", ""))
    return int(found[1]) if found else 0
