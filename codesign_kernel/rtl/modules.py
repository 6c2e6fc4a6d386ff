"""The text of a converted hierarchy: headers, instances, and one module with parameters for what differs in numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from itertools import chain, count
from typing import Any

from codesign_kernel.rtl.compact import compact
from codesign_kernel.rtl.families import Fit, families
from codesign_kernel.rtl.parts import Instance, Module
from codesign_kernel.rtl.repeats import INDEX, NUMBER, Statement, loop, runs, wrap

_CONTEXT = """library IEEE;
use IEEE.std_logic_1164.all;
use IEEE.numeric_std.all;
use std.textio.all;
use work.pck_myhdl_011.all;
"""


Memory = tuple[str, int]


@dataclass(frozen=True)
class Source:
    """A module of the generated text.

    Attributes:
        name: of the module or entity.
        text: all of it, behind what a file begins with.
    """

    name: str
    text: str


def sources(
    modules: Sequence[Module], top: str, language: str, memory: str, prefix: str = ""
) -> tuple[list[Source], list[Memory]]:
    """The text of every module, what it is made of before it, and all memories.

    Args:
        modules: what it is made of before each; the last one is named ``top``.
        memory: name of the block that is a memory: its array of words is ``mem``, its argument ``depth`` their number.
        prefix: what the names of all modules but the top begin with.
    """
    writer = _Writer(language, modules)
    taken: set[str] = {top}
    found: list[Source] = []
    for function in _from_the_leaves(modules):
        members = [module for module in modules if module.function is function]
        for group, fitted in families([(module, writer.skeleton(module)) for module in members]):
            name = top if modules[-1] in group else _free(prefix, group[0], taken)
            writer.introduce(name, group, fitted)
            found.append(Source(name, writer.text(name, group[0], fitted)))
    return found, writer.memories(modules[-1], memory)


def _from_the_leaves(modules: Sequence[Module]) -> list[Callable[..., Any]]:
    """The functions of ``modules``, those before a function that its modules have instances of."""
    order: list[Callable[..., Any]] = []

    def visit(function: Callable[..., Any]) -> None:
        if function not in order:
            for module in modules:
                for instance in module.instances if module.function is function else ():
                    visit(instance.module.function)
            order.append(function)

    visit(modules[-1].function)
    return order


def _free(prefix: str, module: Module, taken: set[str]) -> str:
    base = prefix + "_".join(filter(None, (module.function.__name__, module.variant)))
    name = next(name for name in chain([base], (f"{base}_{n}" for n in count(2))) if name not in taken)
    taken.add(name)
    return name


class _Writer:
    """Text in one language."""

    def __init__(self, language: str, modules: Sequence[Module]) -> None:
        self.verilog = language == "Verilog"
        self.comment = "//" if self.verilog else "--"
        self.top = modules[-1]
        self.live = _live(modules)
        self._bodies: dict[int, str] = {}
        #: name and parameters of what each module became
        self.became: dict[int, tuple[str, dict[str, int]]] = {}
        #: (highest, lowest) bits of those ranges of an input that its module reads, where it does not read all
        self.parts: dict[tuple[int, str], list[tuple[int, int]]] = {}
        #: what each instance is called where it is
        self.paths: dict[int, str] = {}

    def introduce(self, name: str, group: list[Module], fitted: Fit) -> None:
        """Take down what the members of ``group`` are called from now on, and the values of their parameters."""
        for module in group:
            self.became[id(module)] = name, {shown: module.numbers[key] for key, shown in fitted.names.items()}

    def memories(self, module: Module, memory: str, path: str = "") -> list[Memory]:
        """Every memory in ``module``, from there."""
        found = []
        for instance in module.instances:
            inner = f"{path}{self.paths[id(instance)]}."
            if instance.module.function.__name__ == memory:
                found.append((f"{inner}mem", instance.module.numbers["depth"]))
            found += self.memories(instance.module, memory, inner)
        return found

    def skeleton(self, module: Module) -> str:
        """The ports and the body of ``module``, the modules in it named already."""
        if id(module) not in self._bodies:
            self._bodies[id(module)] = self._body(module)
        return self._ports(module) + "\n@\n" + self._bodies[id(module)]

    def text(self, name: str, module: Module, fitted: Fit) -> str:
        """The whole module."""
        follows = iter(fitted.follows)

        def replace(found: re.Match[str]) -> str:
            if found[1]:
                return found[1]
            following = next(follows)
            if following is None:
                return found[2]
            parameter, more = fitted.names[following[0]], following[1]
            return f"({parameter}{more:+})" if more else parameter

        ports, body = NUMBER.sub(replace, self.skeleton(module)).split("\n@\n")
        # a bound needs no brackets of its own
        ports, body = (re.sub(r"([\[(:] ?)\((\w+[-+]\d)\)(?=[\]:)]| downto)", r"\1\2", part) for part in (ports, body))
        ports = self._grouped(ports, in_order=module is self.top)
        doc = re.sub(r":\w+:`([^`]*)`|`", r"\1", cleandoc(module.function.__doc__ or ""))
        comment = "".join(f"{self.comment} {line}".rstrip() + "\n" for line in doc.splitlines())
        if self.verilog:
            parameters = ", ".join(f"parameter {shown} = {module.numbers[key]}" for key, shown in fitted.names.items())
            head = wrap(f"module {name} #({parameters}) (" if parameters else f"module {name} (") + "\n"
            return f"{comment}{head}{ports}\n);\n\n{body}\nendmodule\n"
        generics = ";\n".join(f"        {shown}: natural" for shown in fitted.names.values())
        generic = f"    generic (\n{generics}\n    );\n" if generics else ""
        return (
            f"{_CONTEXT}\n{comment}entity {name} is\n{generic}    port (\n{ports}\n    );\nend entity {name};\n\n"
            f"architecture MyHDL of {name} is\n\n{body}\nend architecture MyHDL;\n"
        )

    def _type(self, kind: str, width: int) -> str:
        if self.verilog:
            return ("signed " if kind == "signed" else "") + ("" if kind == "bit" else f"[{width - 1}:0] ")
        return "std_logic" if kind == "bit" else f"{kind}({width - 1} downto 0)"

    def _ports(self, module: Module) -> str:
        lines = []
        for port in module.ports:
            if port.name not in self.live[id(module)]:
                continue
            parts = self.parts.get((id(module), port.name), [])
            for name, width in [(_part(port.name, *part), part[0] - part[1] + 1) for part in parts] or [
                (port.name, port.width)
            ]:
                kind = self._type(port.kind, width)
                if self.verilog:
                    way = ("output reg " if port.is_register else "output ") if port.is_output else "input "
                    lines.append(f"    {way}{kind}{name}")
                else:
                    lines.append(f"        {name}: {'out' if port.is_output else 'in'} {kind}")
        return (",\n" if self.verilog else ";\n").join(lines)

    def _grouped(self, ports: str, in_order: bool) -> str:
        """``ports`` with one declaration for those of a direction and a type: of all, or of those side by side."""
        indent = ports[: len(ports) - len(ports.lstrip())]
        found: list[tuple[str, list[str]]] = []
        for line in ports.split("\n"):
            declared = line.strip(" ,;")
            name, kind = reversed(declared.rsplit(" ", 1)) if self.verilog else declared.split(": ")
            places = [names for other, names in (found[-1:] if in_order else found) if other == kind]
            if places:
                places[0].append(name)
            else:
                found.append((kind, [name]))
        lines = [
            f"{kind} {', '.join(names)}" if self.verilog else f"{', '.join(names)}: {kind}" for kind, names in found
        ]
        return (",\n" if self.verilog else ";\n").join(wrap(line, indent) for line in lines)

    def _body(self, module: Module) -> str:
        """What stands between the header and the end."""
        if self.verilog:
            text = module.text.split("\n);\n", 1)[1].rsplit("endmodule", 1)[0]
            ports = "|".join(port.name for port in module.ports)
            text = re.sub(rf"^(?:input|output|reg|wire)\b.*\b(?:{ports});$", "", text, flags=re.MULTILINE)
        else:
            text = re.split(r"\narchitecture MyHDL of \w+ is\n", module.text, maxsplit=1)[1]
            text = text.rsplit("end architecture", 1)[0]
        text = self._gathered(module, re.sub(r" +$", "", _bounds(text), flags=re.MULTILINE)).lstrip("\n")
        text = self._split(module, text)
        text = "".join(f"{line}\n" for line in self._declared(module, text)) + text
        if self.verilog:
            text = compact(text)
        else:
            text = re.sub(r"^( *)(.+)$", lambda m: wrap(m[2], m[1], after=", | or | and "), text, flags=re.MULTILINE)
        return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"

    def _declared(self, module: Module, text: str) -> list[str]:
        """Declarations of vectors, and of what MyHDL takes for a port but nobody reads."""
        lines = []
        for vector in module.vectors:
            kind = self._type(vector.kind if vector.kind != "bit" else "unsigned", vector.width)
            if self.verilog:
                lines.append(f"wire {kind}{vector.name}" + (f" [0:{vector.depth - 1}];" if vector.depth else ";"))
            elif vector.depth:
                lines.append(f"type t_array_{vector.name} is array(0 to {vector.depth - 1}) of {kind};")
                lines.append(f"signal {vector.name}: t_array_{vector.name};")
            else:
                lines.append(f"signal {vector.name}: {kind};")
        for port in module.ports:
            if port.name not in self.live[id(module)] and re.search(rf"\b{port.name}\b", text):
                kind = self._type(port.kind, port.width)
                way = "reg" if port.is_register else "wire"
                lines.append(f"{way} {kind}{port.name};" if self.verilog else f"signal {port.name}: {kind};")
        return lines

    def _gathered(self, module: Module, text: str) -> str:
        """``text`` with its instances, and with loops for statements that repeat."""
        pattern = r"@\d+@|assign [^;\n]*;" if self.verilog else r"@\d+@|\w[\w() ]* <= [^;\n]*;"
        declarations, statements = ("", text) if self.verilog else text.split("\nbegin\n", 1)
        lines = statements.split("\n")
        places = [index for index, line in enumerate(lines) if re.fullmatch(pattern, line)]
        found = [self._statement(module, lines[index]) for index in places]
        labels: Counter[str] = Counter()
        for run in runs([statement for statement, _ in found]):
            statement, instance = found[run[0]]
            written = wrap(statement.text.replace("@", instance.name if instance else ""))
            if len(run) > 1:
                label = f"{statement.name}s" if instance else f"{statement.name}_parts"
                labels[label] += 1
                label += str(labels[label]) if labels[label] > 1 else ""
                alike = [Statement(s.name, s.text.replace("@", f"{s.name}_at")) for s, _ in (found[at] for at in run)]
                written = loop(alike, label, self.verilog)
            for number, at in enumerate(run):
                lines[places[at]] = written if number == 0 else ""
                if (placed := found[at][1]) is not None:
                    inside = f"{label}[{number}].{statement.name}_at" if len(run) > 1 else placed.name
                    self.paths[id(placed)] = inside
        statements = "\n".join(lines)
        statements = re.sub(r"(;\n)\n+(?=assign |\w+ <= |\w+\([^\n]* <= )", r"\1", statements)
        if self.verilog:
            loops = f" {INDEX} < " in statements
            if loops:
                first = statements.index(f"for ({INDEX} = 0")
                statements = f"{statements[:first]}genvar {INDEX};\n{statements[first:]}"
            return statements
        return f"{declarations}\nbegin\n{statements}"

    def _statement(self, module: Module, line: str) -> tuple[Statement, Instance | None]:
        """A statement with the place of its instance's name as ``@``; the instance if it is one."""
        if line.startswith("@"):
            instance = module.instances[int(line.strip("@"))]
            return Statement(instance.module.function.__name__, self._instance(instance)), instance
        return Statement(re.findall(r"\w+", line)[1 if self.verilog else 0], line), None

    def _split(self, module: Module, text: str) -> str:
        """``text`` with an input for each range of bits that it reads, where it does not read all of an input."""
        to = ":" if self.verilog else " downto "
        opened, closed = ("[", "]") if self.verilog else ("(", ")")
        for port in module.ports:
            if port.is_output or port.kind != "unsigned":
                continue
            sensitive = re.compile(r"^(?:always @\(|\w+: process \()[^)\n]*\)", re.MULTILINE)
            code = sensitive.sub("", text)
            select = rf"\b{port.name}{re.escape(opened)}(\d+)(?:{to}(\d+))?{re.escape(closed)}"
            selects = [(int(m[1]), int(m[2] or m[1])) for m in re.finditer(select, code)]
            if len(selects) < len(re.findall(rf"(?<!\.)\b{port.name}\b(?! =>)", code)):
                continue
            read = {bit for high, low in selects for bit in range(low, high + 1)}
            if len(read) == port.width:
                continue
            ends = sorted(bit for bit in read if bit + 1 not in read)
            ranges = [(end, max(bit for bit in read if bit - 1 not in read and bit <= end)) for end in ends]
            self.parts[id(module), port.name] = ranges

            def inside(found: re.Match[str], ranges: list[tuple[int, int]] = ranges, name: str = port.name) -> str:
                high, low = int(found[1]), int(found[2] or found[1])
                end, start = next(part for part in ranges if part[0] >= high >= part[1])
                bits = f"{high - start}{to}{low - start}" if found[2] else f"{high - start}"
                return f"{_part(name, end, start)}{opened}{bits}{closed}"

            def listed(found: re.Match[str], ranges: list[tuple[int, int]] = ranges, name: str = port.name) -> str:
                return re.sub(rf"\b{name}\b", ", ".join(_part(name, *part) for part in ranges), found[0])

            text = sensitive.sub(listed, re.sub(select, inside, text))
        return text

    def _actuals(self, instance: Instance) -> Iterator[tuple[str, str]]:
        """What the instance has at each port."""
        for actual in instance.actuals:
            signal = _bounds(actual.signal.strip())
            parts = self.parts.get((id(instance.module), actual.port))
            if parts:
                yield from ((_part(actual.port, *part), self._bits(signal, *part)) for part in parts)
            elif actual.port in self.live[id(instance.module)]:
                yield actual.port, signal

    def _bits(self, signal: str, high: int, low: int) -> str:
        """Bits of ``signal``, which may be bits of another one."""
        found = re.fullmatch(r"(.*)\[(\d+):(\d+)\]" if self.verilog else r"(.*)\((\d+) downto (\d+)\)", signal)
        signal, start = (found[1], int(found[3])) if found else (signal, 0)
        if self.verilog:
            return f"{signal}[{high + start}:{low + start}]"
        return f"{signal}({high + start} downto {low + start})"

    def _instance(self, instance: Instance) -> str:
        name, values = self.became[id(instance.module)]
        actuals = list(self._actuals(instance))
        if self.verilog:
            given = ", ".join(f".{key}({value})" for key, value in values.items())
            start = f"{name} {f'#({given}) ' if given else ''}@ ("
            ports = [f".{port}({signal})" for port, signal in actuals]
        else:
            given = ", ".join(f"{key} => {value}" for key, value in values.items())
            start = f"@: entity work.{name} {f'generic map ({given}) ' if given else ''}port map ("
            ports = [f"{port} => {signal}" for port, signal in actuals]
        return f"{start}{', '.join(ports)});"


def _part(port: str, high: int, low: int) -> str:
    """The name of an input that is some bits of what the block calls ``port``."""
    return f"{port}_{high}_{low}"


def _bounds(text: str) -> str:
    """``text`` with the highest bits of ranges calculated: MyHDL writes ``word[8-1:0]``."""
    return re.sub(r"(?<![\w.])(\d+)-1(?=:|\]| downto|\))", lambda m: str(int(m[1]) - 1), text)


def _live(modules: Sequence[Module]) -> dict[int, set[str]]:
    """The ports of each module that are there: inputs, and outputs that somebody outside reads."""
    live = {id(module): {port.name for port in module.ports if not port.is_output} for module in modules}
    live[id(modules[-1])] |= {port.name for port in modules[-1].ports}
    for module in reversed(modules):
        for instance in module.instances:
            live[id(instance.module)] |= {
                actual.port for actual in instance.actuals if actual.is_read or actual.outer in live[id(module)]
            }
    return live
