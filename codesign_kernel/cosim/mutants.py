"""Mutants of Verilog: the same text with one thing wrong. What checks RTL must notice them.

What changes are assignments, continuous or not, and conditions of ``if``; constants in brackets, which are bounds of
slices, stay. Lines are those of :func:`canonical`: one declaration or statement to a line. A module is mutated once,
however many instances it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from codesign_kernel.rtl.repeats import INDEX

_TOKEN = re.compile(r"\d*'s?[bdhBDH][0-9a-fA-F_]+|\d+|[A-Za-z_$][\w$.]*|>>>|<<|>>|<=|>=|==|!=|&&|\|\||\S")
_ASSIGN = re.compile(r"^(?P<head>\s*assign (?P<to>[\w.]+(?:\[[^=]*\])?) = )(?P<value>.*);$")
_STATEMENT = re.compile(r"^(?P<head>\s*(?P<to>[A-Za-z_][\w.]*(?:\[[^=<]*\])?) <?= )(?P<value>.*);$")
_IF = re.compile(r"^(?P<head>\s*(?:else )?if )\((?P<value>.*)\) begin$")
#: Signals of one type, declared together; the list may go on in the next lines.
_LIST = re.compile(
    r"^( *(?:input|output|output reg|reg|wire) (?:signed )?(?:\[[^]]*\] )?)"
    r"(\w+(?:,\s+(?!(?:input|output)\b)\w+)+)([,;]?)$",
    re.MULTILINE,
)
#: What each operator becomes.
_SWAPS = {
    "+": ("-",), "-": ("+",), "*": ("+",), ">>>": (">>",), ">>": ("<<",), "<<": (">>",),
    "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",),
    "&&": ("||",), "||": ("&&",), "&": ("|",), "|": ("&",), "^": ("|",),
}  # fmt: skip
#: Text in front of the top module, and in it: the number of the mutant is read from a file when a simulation starts.
_PACKAGE = """\
// verilator lint_off TIMESCALEMOD
// verilator lint_off WIDTHEXPAND
// verilator lint_off WIDTHTRUNC
// verilator lint_off CASEINCOMPLETE
// verilator lint_off UNOPTFLAT
// verilator lint_off MULTIDRIVEN
// verilator lint_off CMPCONST
// verilator lint_off UNSIGNED
package mutation;
  int unsigned number;
  int log;
endpackage
"""
#: The file that has the number of the mutant to simulate, in the working folder; 0 is none.
CHOICE = "mutant.hex"
#: The file that gets a line for each module at each end of a reset: its registers that have one.
RESETS = "resets.log"
_CHOOSE = f"""\
  reg [31:0] mutation_choice [0:0];
  initial begin
    $readmemh("{CHOICE}", mutation_choice); mutation::number = mutation_choice[0];
    mutation::log = $fopen("{RESETS}", "w");
  end
"""


@dataclass(frozen=True)
class Mutant:
    """One mutant: its number from 1 on, its module, its line from 0 on, what was done, the line before and after."""

    number: int
    module: str
    line: int
    kind: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.number}: {self.module} line {self.line + 1}, {self.kind}: {self.before} -> {self.after}"


def _declared(found: re.Match[str]) -> str:
    """A list of declarations as one to a line."""
    kind, names, end = found[1], found[2].split(","), found[3]
    between = ";" if end == ";" else ","
    return "\n".join(f"{kind}{name.strip()}{end if last else between}" for last, name in _with_last(names))


def _with_last(items: Sequence[str]) -> Iterator[tuple[bool, str]]:
    return ((number == len(items), item) for number, item in enumerate(items, 1))


def _split(line: str) -> list[str]:
    """A line as lines of one statement each; what hangs on a condition, a case or ``always`` gets a block."""
    indent = line[: len(line) - len(line.lstrip())]
    text = line.strip()
    if text.startswith("end else"):
        return [f"{indent}end", *_split(indent + text.removeprefix("end "))]
    head = re.match(r"(?:else )?if (?=\()|always @(?=\()|else (?!if\b|begin\b)|[\w']+: (?!begin\b)", text)
    if head is None:
        return [line]
    end, depth = head.end(), 0
    while head[0].endswith(("if ", "@")):
        depth += {"(": 1, ")": -1}.get(text[end : end + 1], 0)
        end += 1
        if depth == 0 or end > len(text):
            break
    rest = text[end:].strip()
    if not rest.endswith(";"):
        return [line]
    return [f"{indent}{text[:end].rstrip()} begin", *_split(f"{indent}    {rest}"), f"{indent}end"]


def canonical(verilog: str) -> str:
    """The source with one declaration or statement to a line, and a block where a statement hangs on a condition."""
    verilog = re.sub(r"^(module \w+) #\((.*)\) \($", _parameters, verilog, flags=re.MULTILINE)
    verilog = _LIST.sub(_declared, verilog)
    return "\n".join(part for line in verilog.split("\n") for part in _split(line))


def _parameters(found: re.Match[str]) -> str:
    """The head of a module with a parameter to a line."""
    return f"{found[1]} #(\n" + found[2].replace(", ", ",\n") + "\n) ("


@dataclass(frozen=True)
class _Token:
    text: str
    start: int
    bracket: bool
    unary: bool


def _tokens(value: str) -> Iterator[_Token]:
    depth, before = 0, "("
    for match in _TOKEN.finditer(value):
        text = match.group()
        if text == "[":
            depth += 1
        yield _Token(text, match.start(), depth > 0, before[-1] in "(?:,=<>&|+-*!~{^")
        if text == "]":
            depth -= 1
        before = text


def _constants(text: str) -> Iterator[str]:
    """A constant one more and one less, of the same width."""
    width, quote, digits = text.rpartition("'")
    if not quote:
        yield str(int(text) + 1)
        if int(text):
            yield str(int(text) - 1)
        return
    base = {"b": 2, "d": 10, "h": 16}[digits.lower().lstrip("s")[0]]
    value, form = int(digits.lower().lstrip("s")[1:], base), {2: "b", 10: "d", 16: "x"}[base]
    bits = int(width) if width else 32
    yield from sorted(
        {f"{width}'{digits[0]}{(value + more) % (1 << bits):{form}}" for more in (1, -1) if width or value + more >= 0}
    )


def _values(value: str, signed: frozenset[str]) -> Iterator[tuple[str, str]]:
    """What an expression may become: (what was done, text)."""
    tokens = list(_tokens(value))
    for token in tokens:
        end = token.start + len(token.text)
        news: list[tuple[str, str]] = []
        if token.text in _SWAPS and not (token.unary and token.text in "+-&|^") and not token.bracket:
            news = [(f"{token.text} becomes {new}", new) for new in _SWAPS[token.text]]
        elif token.text in ("!", "~", "-") and token.unary and not token.bracket:
            news = [(f"{token.text} dropped", "")]
        elif token.text == "$signed":
            news = [("signed dropped", "$unsigned")]
        elif token.text in signed and not token.bracket and not value[end:].startswith("["):
            news = [("signed dropped", f"$unsigned({token.text})")]
        elif (token.text[0].isdigit() or token.text[0] == "'") and not token.bracket:
            news = [("constant", new) for new in _constants(token.text)]
        for kind, new in news:
            yield kind, value[: token.start] + new + value[end:]


def _modules(lines: list[str]) -> Iterator[tuple[int, str, frozenset[str]]]:
    """(number of the line, name of its module, signed names in it), of lines that may hold statements."""
    start, name, initial = 0, "", False
    for number, line in enumerate(lines):
        if found := re.match(r"\s*module (\w+)", line):
            start, name = number, found[1]
            stop = next(i for i in range(number, len(lines)) if lines[i].startswith("endmodule"))
            body = "\n".join(lines[start:stop])
            signed = frozenset(
                re.findall(r"^\s*(?:output reg|reg|wire|input|output) signed (?:\[.*?\] )?(\w+)", body, re.MULTILINE)
            )
        initial = (initial or line.strip().startswith("initial")) and line.strip() != "end"
        declares = re.match(r"\s*(//|parameter|localparam|reg|wire|input|output|integer|for)\b", line)
        if name and not initial and not declares and not line.strip().startswith("//"):
            yield number, name, signed


def mutants(verilog: str) -> list[Mutant]:
    """Every mutant of a Verilog source, in order.

    Operators become their neighbours, constants one more and one less, conditions their contrary, signed operands
    unsigned, and assignments in processes disappear.
    """
    found: list[Mutant] = []
    lines = canonical(verilog).split("\n")
    for number, module, signed in _modules(lines):
        line = lines[number]
        changes: list[tuple[str, str]] = []
        if match := _IF.match(line):
            head, value = match["head"], match["value"]
            changes = [("condition negated", f"{head}(!({value})) begin")]
            changes += [(kind, f"{head}({new}) begin") for kind, new in _values(value, signed)]
        elif match := _ASSIGN.match(line) or _STATEMENT.match(line):
            head, value = match["head"], match["value"]
            changes = [(kind, f"{head}{new};") for kind, new in _values(value, signed)]
            if not line.lstrip().startswith("assign "):
                changes.append(("assignment dropped", f"{line[: len(line) - len(line.lstrip())]};"))
        for kind, after in changes:
            found.append(Mutant(len(found) + 1, module, number, kind, line.strip(), after.strip()))
    return found


def mutated(verilog: str, mutant: Mutant) -> str:
    """The source with one mutant in it."""
    lines = canonical(verilog).split("\n")
    lines[mutant.line] = mutant.after
    return "\n".join(lines)


def _switched(line: str, here: list[Mutant]) -> str:
    """A line that does what the chosen one of ``here`` does, and else what it did."""
    if match := _IF.match(line):
        value = f"({match['value']})"
        for mutant in here:
            changed = _IF.match(mutant.after)
            assert changed is not None
            value = f"(mutation::number == {mutant.number} ? ({changed['value']}) : {value})"
        return f"{match['head']}({value}) begin"
    continuous = line.lstrip().startswith("assign ")
    cases = " ".join(f"{mutant.number}: {mutant.after.removeprefix('assign ')}" for mutant in here)
    usual = line.strip().removeprefix("assign ")
    return f"{'always_comb ' if continuous else ''}case (mutation::number) {cases} default: {usual} endcase"


def with_switch(verilog: str, top: str, chosen: list[Mutant]) -> str:
    """The source with all of ``chosen`` in it, in SystemVerilog for Verilator; the file ``CHOICE`` says which is alive.

    One compilation serves all mutants.
    """
    lines = canonical(verilog).split("\n")
    by_line: dict[int, list[Mutant]] = {}
    for mutant in chosen:
        by_line.setdefault(mutant.line, []).append(mutant)
    for number, here in by_line.items():
        lines[number] = _switched(lines[number], here)
    text = "\n".join(lines)
    # the number is in no list of sensitivities
    text = re.sub(r"always @\((?![^)]*posedge)[^)]*\)", "always @*", text)
    text = re.sub(r"^(\s*)wire ([^=\n]*;)$", r"\1logic \2", text, flags=re.MULTILINE)
    text = re.sub(r"^(\s*)output (?!reg\b)([^;\n]*)$", r"\1output logic \2", text, flags=re.MULTILINE)
    text = re.sub(r"^module .*?^endmodule", lambda found: _logged(found[0], top), text, flags=re.MULTILINE | re.DOTALL)
    return _PACKAGE + text


def _logged(module: str, top: str) -> str:
    """A module that writes down its registers when a reset ends; the top also chooses the mutant."""
    resets = re.findall(r"if \([^\n]*\brst == [^\n]*\) begin\n(.*?)\n\s*end\n", module, re.DOTALL)
    names = sorted({name for body in resets for name in re.findall(r"(\w+(?:\[[^=<\]]*\])?) <= ", body)})
    log = ""
    if names:
        shown = f'$fdisplay(mutation::log, "%m {" ".join("%h" for _ in names)}", {", ".join(names)});'
        log = f"  always @(negedge rst) begin {shown} $fflush(mutation::log); end\n"
    choose = _CHOOSE if re.match(rf"module {top}\b", module) else ""
    return module.removesuffix("endmodule") + choose + log + "endmodule"


def settings(verilog: str, module: str) -> list[dict[str, str]]:
    """The values that the parameters of ``module`` have in its instances, each set of them once: text by name.

    One empty set where it has no parameters; no set at all where a value is no number.
    """
    found: list[dict[str, str]] = []
    for given in re.findall(rf"^ *{module} #\((.*?)\) \w+ \(", verilog, re.MULTILINE):
        values = dict(re.findall(r"\.(\w+)\(([^()]*)\)", given))
        if not all(value.isdecimal() for value in values.values()):
            return []
        found += [values] if values not in found else []
    return found or [{}]


def block_pair(
    verilog: str, mutant: Mutant, values: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, str] | None:
    """The process or assignment that ``mutant`` changes as a module of its own, before and after.

    Its inputs are all signals that it reads, its outputs those that it writes: equal modules make equal circuits.
    ``values`` are those of the module's parameters that are not as in its head. ``None`` where a memory is touched, or
    where the assignment is one of a loop, which have no such form.
    """
    lines = canonical(verilog).split("\n")
    start = mutant.line
    while not re.match(r"\s*(assign |always )", lines[start]):
        start -= 1
    body = lines[start : _end_of(lines, start) + 1]
    module = next(i for i in range(start, -1, -1) if re.match(r"\s*module ", lines[i]))
    used = set(re.findall(r"[A-Za-z_]\w*", "\n".join(body)))
    if INDEX in used:
        return None
    written = set(re.findall(r"^\s*(?:assign )?([A-Za-z_]\w*)(?:\[[^=<]*\])? <?= ", "\n".join(body), re.MULTILINE))
    head: list[str] = []
    names: list[str] = []
    constants: list[str] = []
    for line in lines[module : lines.index("endmodule", start)]:
        if found := re.match(r"\s*(parameter|localparam) (\w+) = ([^,;]*)[,;]?$", line):
            constants.append(f"{found[1]} {found[2]} = {values.get(found[2], found[3])}")
            continue
        found = re.match(r"\s*(output reg|reg|wire|input|output) (signed )?(\[[^]]*\] )?(\w+)( \[.*\])?[;,]?$", line)
        if found is None or found[4] not in used or found[4] in names:
            continue
        if found[5]:
            return None
        names.append(found[4])
        driven = "output" if lines[start].lstrip().startswith("assign ") else "output reg"
        head.append(f"  {driven if found[4] in written else 'input'} {found[2] or ''}{found[3] or ''}{found[4]}")
    changed = list(body)
    changed[mutant.line - start] = mutant.after
    parameters = f"#({', '.join(constants)}) " if constants else ""
    ports = ",\n".join(head)
    gold, gate = (
        f"module {name} {parameters}(\n{ports}\n);\n" + "\n".join(what) + "\nendmodule\n"
        for name, what in (("gold", body), ("gate", changed))
    )
    return gold, gate


def _end_of(lines: list[str], start: int) -> int:
    """The last line of the process or assignment that begins at line ``start``."""
    if "assign " in lines[start]:
        return start
    indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
    return next(i for i in range(start, len(lines)) if lines[i] == f"{indent}end")
