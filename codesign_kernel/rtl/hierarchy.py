"""Conversion block by block: every kind of block becomes a Verilog module and a VHDL entity of its own.

MyHDL converts a hierarchy of blocks into one flat module. Here a call of a :func:`block` during a :class:`Conversion`
does not elaborate the block where it is called: the block is elaborated by itself, once for each kind of arguments, on
signals made for the purpose, and converted alone; what is left at the call is an instance with its port map. A port
that the block neither reads nor drives is left out, and so is an output that nobody reads. The signals of an interface
become ports one by one: ``ctl.issue`` is the port ``ctl_issue``. A list of signals becomes one port of all their bits,
the first signal in the lowest, and so does the list that is given for it; no process reads a signed one of these.

Outside of a conversion, a :func:`block` is MyHDL's.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from myhdl import ConcatSignal, ConversionError, toVerilog, toVHDL
from myhdl._block import _Block, _uniqueify_name, block_decorator
from myhdl._extractHierarchy import _UserVerilogCode, _UserVhdlCode
from myhdl._instance import _Instantiator
from myhdl._ShadowSignal import _ShadowSignal
from myhdl._Signal import _isListOfSigs, _Signal

from codesign_kernel.rtl.arguments import (
    each,
    formals_of,
    fresh,
    is_interface,
    is_nested,
    key_of,
    kind_of,
    likeness,
    signals_of,
)
from codesign_kernel.rtl.frames import bare_stack
from codesign_kernel.rtl.parts import Actual, Instance, Module, Port, Vector

bare_stack()
LANGUAGES = {"Verilog": ".v", "VHDL": ".vhd"}


def block(function: Callable[..., Any] | None = None, *, inline: bool = False) -> Any:
    """MyHDL's ``block``; with ``inline=True`` its processes stay in the module that calls it."""
    if function is None:
        return lambda given: Decorator(given, inline)
    return Decorator(function, inline)


class Decorator(block_decorator):
    """What :func:`block` makes of a function."""

    def __init__(self, function: Callable[..., Any], inline: bool) -> None:
        super().__init__(function)
        self.inline = inline

    def __call__(self, *args: Any, **kwargs: Any) -> _Block:
        body: type[_Block] = _Block
        if Conversion.active is None:
            # as in MyHDL, which looks for the caller at a fixed depth of the stack
            name = _uniqueify_name(f"{self.func.__name__}{self.calls}")
            self.calls += 1
        else:
            name = Conversion.active.next_name(self.func.__name__)
            if not self.inline:
                return Conversion.active.instance(self, name, args, kwargs, sys._getframe(1))
            body = _Body
        made = body(self.func, self, name, self.srcfile, self.srcline, self.skipname, *args, **kwargs)
        made.inline = self.inline
        return made


class _Scope:
    """A module that is being elaborated.

    Attributes:
        lists: those of its signals that are one signal there, by :func:`_key`.
        names: the names of these, once they are known.
        formals: the port that a signal or such a list is.
    """

    def __init__(self, module: Module, formals: dict[str, Any]) -> None:
        self.module, self.count = module, Counter[str]()
        self.lists: dict[Any, list[_Signal]] = {}
        self.names: dict[Any, str] = {}
        self.formals = {key_of(value): name for name, value in formals.items()}
        self.formals.update({id(signal): name for name, value in formals.items() for signal in each(value)})
        self.wired: list[_Wired] = []

    def pack(self, signals: list[_Signal]) -> None:
        """Take down that ``signals`` are one signal here."""
        self.lists.setdefault(key_of(signals), signals)


class _Body(_Block):
    """A block whose processes are converted; signals are named by all that its function calls them."""

    def _updateNamespaces(self) -> None:
        known: dict[str, Any] = {}
        for part in self.subs:
            known.update(part.callinfo.symdict)
        for name, value in list(known.items()):
            if is_nested(value):
                known.update({f"{name}_{index}": inner for index, inner in enumerate(value)})
        self.symdict = dict(known)
        super()._updateNamespaces()
        for name, value in known.items():
            for path, signal in signals_of(name, value) if is_interface(value) else ():
                if isinstance(signal, _Signal):
                    self.sigdict.setdefault(path, signal)
        assert Conversion.active is not None
        scope = Conversion.active.scope
        vector = {id(signal) for signals in scope.lists.values() for signal in signals}
        wired = {id(s) for part in scope.wired for s in part.signals.values() if isinstance(s, _Signal)}
        for found in self.memdict.values():
            apart = any(isinstance(s, _ShadowSignal) or id(s) in vector for s in found.mem)
            found._used = not apart and any(found._used or s._used or id(s) in wired for s in found.mem)


class _Alone(_Body):
    """A block that is converted by itself."""

    def _updateNamespaces(self) -> None:
        super()._updateNamespaces()
        assert Conversion.active is not None
        scope = Conversion.active.scope
        for key, signals in list(scope.lists.items()):
            if key not in scope.names:
                self._name(scope, key, signals)
        _check_reads(self, {id(s) for signals in scope.lists.values() for s in signals if kind_of(s) == "signed"})
        for value in self.symdict.values():
            for signal in value if isinstance(value, list) else [value]:
                if isinstance(signal, ConcatSignal):
                    key = key_of(list(reversed(signal._args)))
                    if key in scope.names and kind_of(scope.lists[key][0]) != "signed":
                        signal._name = scope.names[key]

    def _name(self, scope: _Scope, key: Any, signals: list[_Signal]) -> None:
        """Name ``signals`` as parts of one signal that is called as the list is."""
        if key in scope.formals:
            _name_parts(scope, scope.formals[key], signals)
            return
        kind, width = kind_of(signals[0]), sum(signal._nrbits for signal in signals)
        for name, value in self.symdict.items():
            if _isListOfSigs(value) and key_of(value) == key:
                scope.module.vectors.append(Vector(name, kind, width, None))
                _name_parts(scope, name, signals)
                return
            if is_nested(value) and key in map(key_of, value):
                scope.module.vectors.append(Vector(name, kind, width, len(value)))
                for index, inner in enumerate(value):
                    scope.pack(inner)
                    _name_parts(scope, _at(name, index), inner)
                return
        raise ConversionError(f"a list of {len(signals)} signals is given to a block but is no variable of {self.name}")

    def _inferInterface(self) -> None:
        """Called when it is known what is read and what is driven."""
        assert Conversion.active is not None
        scope = Conversion.active.scope
        used = {
            name: value
            for name, value in self.formals.items()
            if self.keep_ports or any(s._driven or s._read for s in each(value))
        }
        scope.module.ports = [_port(name, value) for name, value in used.items()]
        self.argdict = {name: value for name, value in used.items() if isinstance(value, _Signal)}
        self.argnames = list(self.argdict)
        for name, signal in self.argdict.items():
            signal._name = name
            for part in signal._slicesigs:
                part._setName(Conversion.active.language)
        for part in scope.wired:
            for port in part.instance.module.ports:
                signal = part.signals[port.name]
                if port.is_output and isinstance(signal, _Signal) and not signal._read:
                    # MyHDL would warn of it; a port is declared in any case
                    signal._used = False


class _Wired(_Block):
    """What is left of a block at its call: an instance of its module.

    Attributes:
        signals: what there is at each port, a signal or a list of them.
    """

    def __init__(self, instance: Instance, signals: dict[str, Any], caller: Any) -> None:
        self.instance, self.signals = instance, signals
        self.name = self.__name__ = instance.name
        self.__doc__ = None
        self.subs: list[Any] = []
        self.modctxt = True
        self.callername = caller.f_code.co_name
        self.callinfo = _Caller({**caller.f_globals, **caller.f_locals})
        # names for those signals that the caller has no name for
        self.sigdict = {name: signal for name, signal in signals.items() if isinstance(signal, _Signal)}
        self.memdict: dict[str, Any] = {}
        self.symdict: dict[str, Any] = {}
        self.verilog_code = _VerilogInstance(self)
        self.vhdl_code = _VhdlInstance(self)


@dataclass
class _Caller:
    symdict: dict[str, Any]


class _VerilogInstance(_UserVerilogCode):
    """Where MyHDL writes code of the user: takes down the names that the signals have by then."""

    __slots__ = ("wired",)

    def __init__(self, wired: _Wired) -> None:
        super().__init__("", {}, wired.name, None, "", 0)
        self.wired = wired

    def __str__(self) -> str:
        assert Conversion.active is not None
        return f"@{Conversion.active.placed(self.wired)}@\n"


class _VhdlInstance(_UserVhdlCode):
    """As :class:`_VerilogInstance`."""

    __slots__ = ("wired",)

    def __init__(self, wired: _Wired) -> None:
        super().__init__("", {}, wired.name, None, "", 0)
        self.wired = wired

    __str__ = _VerilogInstance.__str__


class Conversion:
    """The conversion of one block, and with it of all that it is made of, into ``language``.

    Attributes:
        modules: every kind of block, those that a module is made of before it.
    """

    active: Conversion | None = None

    def __init__(self, language: str, folder: Path) -> None:
        self.language, self.folder = language, folder
        self.modules: list[Module] = []
        self._known: dict[Any, Module] = {}
        self._scopes: list[_Scope] = []

    def run(self, top: Decorator, arguments: dict[str, Any]) -> Module:
        """Convert ``top``; all its arguments stay ports.

        Raises:
            myhdl.ConversionError: a construct cannot be converted.
        """
        Conversion.active = self
        try:
            return self._converted(top, arguments, keep_ports=True)
        finally:
            Conversion.active = None

    @property
    def scope(self) -> _Scope:
        """The module that is being elaborated."""
        return self._scopes[-1]

    def next_name(self, kind: str) -> str:
        """A name for one more ``kind`` of block in the module that is being elaborated."""
        self.scope.count[kind] += 1
        return f"{kind}{self.scope.count[kind] - 1}"

    def placed(self, wired: _Wired) -> int:
        """The number of an instance in the text of the module that is being written."""
        scope = self.scope
        wired.instance.actuals = [
            Actual(
                name,
                value._name if isinstance(value, _Signal) else scope.names[key_of(value)],
                any(signal._read for signal in each(value)),
                scope.formals.get(key_of(value)),
            )
            for name, value in wired.signals.items()
        ]
        scope.module.instances.append(wired.instance)
        return len(scope.module.instances) - 1

    def instance(self, made_by: Decorator, name: str, args: tuple[Any, ...], kwargs: Any, caller: Any) -> _Block:
        """The block as an instance, its signals marked as what it does with them."""
        bound = inspect.signature(made_by.func).bind(*args, **kwargs).arguments
        module = self._converted(made_by, bound, keep_ports=False)
        given = dict(formals_of(bound))
        signals = {port.name: given[port.name] for port in module.ports}
        for port in module.ports:
            value = signals[port.name]
            if not isinstance(value, _Signal):
                self.scope.pack(value)
            for signal in each(value):
                signal._markUsed()
                if port.is_output or isinstance(signal, _ShadowSignal):
                    signal._driven = "wire"
                if not port.is_output:
                    signal._markRead()
        wired = _Wired(Instance(module, name), signals, caller)
        self.scope.wired.append(wired)
        return wired

    def _converted(self, made_by: Decorator, bound: dict[str, Any], keep_ports: bool) -> Module:
        numbering: dict[int, int] = {}
        key = made_by.func, tuple((name, likeness(value, numbering)) for name, value in bound.items())
        if key not in self._known:
            self._known[key] = self._convert(made_by, bound, keep_ports)
            self.modules.append(self._known[key])
        return self._known[key]

    def _text(self, body: _Alone) -> str:
        """What MyHDL makes of a block by itself."""
        converter = toVerilog if self.language == "Verilog" else toVHDL
        converter.name, converter.directory, converter.no_myhdl_header = "module", str(self.folder), True
        setattr(converter, "no_testbench" if self.language == "Verilog" else "no_myhdl_package", True)
        converter(body)
        return (self.folder / f"module{LANGUAGES[self.language]}").read_text(encoding="utf-8")

    def _convert(self, made_by: Decorator, bound: dict[str, Any], keep_ports: bool) -> Module:
        function = made_by.func
        integers = {name: value for name, value in bound.items() if type(value) is int}
        variant = "_".join(value for value in bound.values() if isinstance(value, str) and value)
        module = Module(function, integers, variant)
        made: dict[int, _Signal] = {}
        arguments = {name: fresh(value, made) for name, value in bound.items()}
        formals = dict(formals_of(arguments))
        self._scopes.append(_Scope(module, formals))
        for value in formals.values():
            if not isinstance(value, _Signal):
                self.scope.pack(value)
        body = _Alone(
            function, made_by, function.__name__, made_by.srcfile, made_by.srcline, made_by.skipname, **arguments
        )
        # the header is written apart
        body.__doc__ = None
        body.keep_ports, body.formals = keep_ports, formals
        module.text = self._text(body)
        for port in module.ports:
            if port.kind != "bit":
                module.numbers.setdefault(f"{port.name}_width", port.width)
        variables = function.__code__.co_varnames + function.__code__.co_cellvars
        for name, value in body.symdict.items():
            if type(value) is int and name in variables:
                module.numbers.setdefault(name, value)
        self._scopes.pop()
        return module


def _check_reads(part: Any, signed: set[int]) -> None:
    """Refuse processes that read a part of a signed vector: in Verilog it would be unsigned."""
    if isinstance(part, _Instantiator):
        for name in part.inputs:
            if id(part.symdict.get(name)) in signed:
                raise ConversionError(
                    f"a process reads {name}, which is one of a list of signed signals that is a port"
                )
    for inner in getattr(part, "subs", ()):
        _check_reads(inner, signed)


def _at(name: str, index: int) -> str:
    assert Conversion.active is not None
    return f"{name}[{index}]" if Conversion.active.language == "Verilog" else f"{name}({index})"


def _name_parts(scope: _Scope, name: str, signals: Sequence[_Signal]) -> None:
    """Name ``signals`` as the parts of ``name``, the first in the lowest bits."""
    assert Conversion.active is not None
    verilog = Conversion.active.language == "Verilog"
    scope.names[key_of(signals)] = name
    low = 0
    for signal in signals:
        high = low + signal._nrbits - 1
        if kind_of(signal) == "bit":
            signal._name = _at(name, low)
        else:
            signal._name = f"{name}[{high}:{low}]" if verilog else f"{name}({high} downto {low})"
        low = high + 1


def _port(name: str, value: Any) -> Port:
    signals = each(value)
    kind = kind_of(signals[0])
    return Port(
        name,
        "unsigned" if kind == "bit" and not isinstance(value, _Signal) else kind,
        sum(signal._nrbits for signal in signals),
        any(signal._driven for signal in signals),
        any(signal._driven == "reg" for signal in signals),
        any(signal._read for signal in signals),
    )
