"""Rejects what MyHDL converts wrongly, before it does: with file and line, the reason, and what to write instead.

MyHDL 0.11 gives no error for most of what it gets wrong: the simulation in Python passes, and the Verilog or the VHDL
computes something else, or no tool reads it. ``docs/conversion.md`` lists the traps, wrong and right side by side.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from myhdl import intbv
from myhdl._block import _Block
from myhdl._instance import _Instantiator
from myhdl._ShadowSignal import ConcatSignal, _ShadowSignal, _SliceSignal
from myhdl._Signal import Constant, _Signal

from codesign_kernel.errors import ConversionError
from codesign_kernel.rtl.lawful_source import check_process, meaning, name_faults, names_of, tree_of


@dataclass(frozen=True, order=True)
class Finding:
    """One construct that converts wrongly."""

    file: str
    line: int
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}: {self.reason}; {self.remedy}"


class _Checker:
    def __init__(self, top: Any) -> None:
        self.top = top
        self.found: set[Finding] = set()
        self.looked_at: set[object] = set()
        self.driven: set[int] = set()
        self.read: dict[int, tuple[Any, Any, str]] = {}
        self.lists: dict[int, tuple[Any, Any, str]] = {}
        self.unreset: dict[int, tuple[Any, Any, str]] = {}

    def tell(self, file: str, line: int, reason: str, remedy: str) -> None:
        self.found.add(Finding(file, line, reason, remedy))

    def tell_name(self, block: Any, name: str, reason: str, remedy: str) -> None:
        """At the line of ``block``'s source where ``name`` is made."""
        code = block.func.__code__
        self.tell(code.co_filename, _line_of(block, name), reason, remedy)

    def _is_module(self, block: Any) -> bool:
        """Whether what ``block`` has keeps its name: MyHDL prefixes that of inner blocks, but some become modules."""
        return block is self.top or not getattr(block, "inline", True)

    def blocks(self, block: Any) -> Iterator[Any]:
        yield block
        for sub in block.subs:
            if isinstance(sub, _Block):
                yield from self.blocks(sub)

    def run(self) -> list[Finding]:
        for block in self.blocks(self.top):
            for sub in block.subs:
                if isinstance(sub, _Instantiator):
                    self._process(block, sub)
        self._ports()
        named = {id(signal) for items, _, _ in self.lists.values() for signal in items}
        for block in self.blocks(self.top):
            self._names(block, named)
        self._signals()
        self._lists()
        return sorted(self.found)

    # ---- processes

    def _process(self, block: Any, process: Any) -> None:
        function: FunctionType = process.funcobj
        code = function.__code__
        used = {**process.sigdict, **process.losdict}
        for name in process.outputs | process.inouts:
            if name in used:
                self._note_driven(block, process, name, used[name])
        for name in process.inputs | process.inouts:
            if name in used:
                self._note_read(block, name, used[name])
        for name, value in process.losdict.items():
            self.lists.setdefault(id(value), (value, block, name))
        names = names_of(function, {})
        key = (code, tuple((name, meaning(value)) for name, value in names.items()))
        if key in self.looked_at:
            return
        self.looked_at.add(key)
        tree = tree_of(code)
        if tree is None:
            return

        def tell(node: ast.AST, reason: str, remedy: str) -> None:
            self.tell(code.co_filename, getattr(node, "lineno", code.co_firstlineno), reason, remedy)

        for reason in name_faults(function.__name__, self._is_module(block)):
            tell(tree, f"the process {function.__name__} {reason}", "rename it")
        self._held_variables(block, tree, names)
        self._interfaces(names, tree, tell)
        check_process(tree, names, tell)

    def _note_driven(self, block: Any, process: Any, name: str, value: Any) -> None:
        reset = getattr(process, "reset", None) is not None
        for signal in value if isinstance(value, list) else [value]:
            self.driven.add(id(signal))
            clocked = type(process).__name__ in ("_Always", "_AlwaysSeq")
            if clocked and not reset and isinstance(signal._init, (int, intbv)) and int(signal._init) != 0:
                self.unreset[id(signal)] = (signal, block, name)

    def _note_read(self, block: Any, name: str, value: Any) -> None:
        for signal in value if isinstance(value, list) else [value]:
            self.read.setdefault(id(signal), (signal, block, name))

    def _held_variables(self, block: Any, tree: ast.FunctionDef, names: dict[str, Any]) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
                value = names.get(node.value.id)
                if isinstance(value, intbv) and int(value) != 0:
                    self.tell_name(
                        block,
                        node.value.id,
                        f"the variable {node.value.id} starts at {int(value)} in MyHDL only",
                        "reset a signal to that value, with always_seq(clk.posedge, reset=...)",
                    )

    def _interfaces(self, names: dict[str, Any], tree: ast.FunctionDef, tell: Any) -> None:
        for node in (part for part in ast.walk(tree) if isinstance(part, ast.Name)):
            value = names.get(node.id)
            if isinstance(value, (list, tuple)) and value and _is_interface(value[0]):
                tell(node, f"{node.id} is a list of interfaces, which does not convert", "make a list for every signal")

    # ---- names

    def _names(self, block: Any, named: set[int]) -> None:
        """Names within one block; ``named`` are the signals that got theirs in a list or further up."""
        new = {
            name: value
            for name, value in [*block.sigdict.items(), *block.memdict.items()]
            if id(value) not in named and self._used(value)
        }
        named.update(map(id, new.values()))
        given: dict[str, str] = {}
        for name in new:
            for reason in name_faults(name, self._is_module(block)):
                self.tell_name(block, name, f"the signal {name} {reason}", "rename it")
            other = given.setdefault(name.lower(), name)
            if other != name:
                self.tell_name(
                    block, name, f"{name} and {other} are the same name in VHDL", "let names differ in more than case"
                )
        for name, value in new.items():
            for state in _enum_names(value):
                if state.lower() in given:
                    self.tell_name(
                        block, name, f"the state {state} and a signal have the same name in VHDL",
                        "rename one of them",
                    )  # fmt: skip
        for sub in block.subs:
            if isinstance(sub, _Block) and sub.name:
                for inner, value in sub.sigdict.items():
                    taken = f"{sub.name}_{inner}"
                    if taken in new and value is not new[taken] and id(value) not in named:
                        self.tell_name(
                            block, taken, f"{inner} of the block {sub.name} is called {taken} too when converted",
                            "rename it",
                        )  # fmt: skip

    def _used(self, value: Any) -> bool:
        if isinstance(value, _Signal):
            return id(value) in self.driven or id(value) in self.read or value._used
        return bool(value._used)

    def _ports(self) -> None:
        code = self.top.func.__code__
        names = code.co_varnames[: code.co_argcount]
        given = {**dict(zip(names, self.top.args, strict=False)), **self.top.kwargs}
        line = _line_of(self.top, "")
        for reason in name_faults(self.top.func.__name__, True):
            self.tell(code.co_filename, line, f"the block {self.top.func.__name__} {reason}", "rename it")
        for name, value in given.items():
            if isinstance(value, (list, tuple)) and value and isinstance(value[0], _Signal):
                self.tell_name(
                    self.top, name, f"the port {name} is a list, which MyHDL does not convert at the top",
                    "join the signals into one word (ConcatSignal), or give every one a port",
                )  # fmt: skip
        self.ports = {id(value) for value in given.values() if isinstance(value, _Signal)} | {
            id(part) for value in given.values() if hasattr(value, "__dict__") for part in vars(value).values()
        }

    # ---- signals

    def _signals(self) -> None:
        for signal, block, name in list(self.read.values()):
            self._shadows(signal, block, name)
            if signal._nrbits == 0 or signal._nrbits is None:
                if isinstance(signal._val, (int, intbv)):
                    self.tell_name(
                        block, name, f"the signal {name} has no width", "write Signal(intbv(0)[8:]) or give min and max"
                    )
                continue
            if isinstance(signal, _ShadowSignal) or id(signal) in self.driven or id(signal) in self.ports:
                continue
            if signal._min is not None and signal._min < 0:
                kind = "the Constant" if isinstance(signal, Constant) else "the signal"
                self.tell_name(
                    block, name,
                    f"{kind} {name} is signed, read and never driven, and becomes an unsigned constant in Verilog",
                    "use a Python integer",
                )  # fmt: skip
        for signal, block, name in self.unreset.values():
            self.tell_name(
                block, name,
                f"the register {name} starts at {int(signal._init)} in MyHDL only: without a reset the languages "
                "leave it open",
                "use always_seq(clk.posedge, reset=...), or let it start at zero and load the value",
            )  # fmt: skip

    def _shadows(self, signal: Any, block: Any, name: str) -> None:
        if isinstance(signal, ConcatSignal):
            parts = [part for part in signal._args if isinstance(part, _Signal)]
        elif isinstance(signal, _SliceSignal):
            parts = [signal._sig]
        else:
            return
        for part in parts:
            self.read.setdefault(id(part), (part, block, name))
            if isinstance(part, _ShadowSignal):
                self._shadows(part, block, name)
            if part._min is not None and part._min < 0:
                what = "a concatenation" if isinstance(signal, ConcatSignal) else "a slice x(m, n)"
                self.tell_name(
                    block, name, f"{name} is {what} of a signed signal, which is not valid VHDL",
                    "copy it into an unsigned signal first: u.next = s[len(s):] in a process",
                )  # fmt: skip

    def _lists(self) -> None:
        member: dict[int, int] = {}
        for key, (items, block, name) in self.lists.items():
            for signal in items:
                if member.setdefault(id(signal), key) != key:
                    other = self.lists[member[id(signal)]][2]
                    self.tell_name(
                        block, name, f"a signal is in the list {name} and in the list {other}, which does not convert",
                        "use one list, and copy in a process where another is needed",
                    )  # fmt: skip
                    break
            if any(id(signal) in self.ports for signal in items):
                self.tell_name(
                    block, name, f"a port is in the list {name}, which does not convert",
                    "copy between the port and the list in a process",
                )  # fmt: skip
            elif items and not any(id(signal) in self.driven for signal in items):
                self.tell_name(
                    block, name, f"the list {name} is read and never driven: its values are lost in VHDL",
                    "make it a tuple of integers",
                )  # fmt: skip


def _is_interface(value: object) -> bool:
    return (
        not isinstance(value, (_Signal, intbv, int))
        and hasattr(value, "__dict__")
        and any(isinstance(part, _Signal) for part in vars(value).values())
    )


def _enum_names(value: Any) -> tuple[str, ...]:
    kind = getattr(getattr(value, "_val", None), "_type", None)
    return tuple(getattr(kind, "_names", ()))


def _line_of(block: Any, name: str) -> int:
    """Where ``name`` is made in the source of ``block``: its assignment, or the head of the function."""
    code = block.func.__code__
    tree = tree_of(code)
    if tree is None:
        return int(code.co_firstlineno)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            return node.lineno
    base = name.split("_")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == base and isinstance(node.ctx, ast.Store):
            return node.lineno
    return tree.lineno


def findings(instance: Any) -> list[Finding]:
    """Everything in ``instance`` and below that converts wrongly, by file and line."""
    return _Checker(instance).run()


def check_block(instance: Any) -> None:
    """Refuse an elaborated MyHDL block that would convert wrongly to Verilog or VHDL.

    Args:
        instance: what a function decorated with ``myhdl.block`` returns; the checks reach everything below it.

    Raises:
        ConversionError: the message has a line ``file:line: reason; remedy`` for each of them.
    """
    found = findings(instance)
    if found:
        count = "one construct" if len(found) == 1 else f"{len(found)} constructs"
        raise ConversionError(
            f"{instance.func.__name__} has {count} that MyHDL converts wrongly:\n"
            + "\n".join(f"  {finding}" for finding in found)
        )
