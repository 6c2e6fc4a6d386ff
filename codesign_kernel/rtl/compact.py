"""The statements of a Verilog module in fewer lines: what MyHDL spreads over several, as people write it."""

from __future__ import annotations

import re

from codesign_kernel.rtl.repeats import LINE, wrap

#: One assignment between begin and end.
_SINGLE = re.compile(
    r"^( *)((?:else )?if \(.*\)|else|for \(.*\)|[\w']+:) begin\n\1    (\w[^=;\n]* <?= [^\n;]*;)\n\1end$", re.MULTILINE
)
#: An else with nothing in it but another if, and what belongs to that.
_NESTED = re.compile(
    r"^( *)((?:end )?else) begin\n\1    (if .*\n(?:\1    (?: |(?:end|else)\b).*\n)*)\1end$", re.MULTILINE
)


def compact(text: str) -> str:
    """``text`` with one declaration for signals of a type, no block for one assignment, and chains of ``else if``."""
    text = re.sub(r"\bend\n +else\b", "end else", _SINGLE.sub(_alone, _by_type(_scalars(text))))
    before = ""
    while before != text:
        before, text = text, _NESTED.sub(_chained, text)
    return text


def _scalars(text: str) -> str:
    """An array of one element as the element: Icarus Verilog cannot run a process that waits for one."""
    for kind, name in re.findall(r"^((?:wire|reg) .*?)?\b(\w+) \[0:0\];$", text, re.MULTILINE):
        # not the ports of instances, which may be called alike
        here = rf"(?<![.\w]){name}\b"
        if len(re.findall(here, text)) == 1 + len(re.findall(rf"{here}\[0\]", text)):
            text = text.replace(f"{kind}{name} [0:0];", f"{kind}{name};")
            text = re.sub(rf"{here}\[0\]", name, text)
    return text


def _by_type(text: str) -> str:
    """One declaration for all signals of a type, where they stand together."""

    def merged(found: re.Match[str]) -> str:
        names: dict[str, list[str]] = {}
        for line in found[0].splitlines():
            kind, name = line.removesuffix(";").rsplit(" ", 1)
            names.setdefault(kind, []).append(name)
        return "".join(wrap(f"{kind} {', '.join(of_kind)};") + "\n" for kind, of_kind in names.items())

    return re.sub(r"(?:^(?:wire|reg) (?:signed )?(?:\[\d+:0\] )?\w+;\n)+", merged, text, flags=re.MULTILINE)


def _alone(found: re.Match[str]) -> str:
    """One assignment without its begin and end, where that gives a line."""
    line = f"{found[1]}{found[2]} {found[3]}"
    return line if len(line) <= LINE else found[0]


def _chained(found: re.Match[str]) -> str:
    """``else if`` for an ``if`` that is all of an ``else``."""
    inner = found[3].rstrip("\n").replace(f"\n{found[1]}    ", f"\n{found[1]}")
    return f"{found[1]}{found[2]} {inner}"
