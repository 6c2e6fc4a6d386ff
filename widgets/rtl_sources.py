"""Sources of hardware as a page shows them: which module is made of which, and what each word is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from pygments.lexer import Lexer
from pygments.lexers.hdl import VerilogLexer, VhdlLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String, _TokenType

#: Ending of a file -> its language.
LANGUAGES = {".v": "verilog", ".vhd": "vhdl"}
#: The kinds of words that have a colour, in the order of their codes; 0 is everything else.
_KINDS: tuple[_TokenType, ...] = (Keyword.Type, Keyword, Comment, String, Number, Name.Class, Operator)
_MODULE = {
    "verilog": re.compile(r"^\s*module\s+(\w+)"),
    "vhdl": re.compile(r"^\s*entity\s+(\w+)\s+is", re.IGNORECASE),
}
#: Where the parts of a module are: VHDL's entities have theirs in the architecture.
_BODY = re.compile(r"^\s*architecture\s+\w+\s+of\s+(\w+)", re.IGNORECASE)
_LOOP = {
    "verilog": re.compile(r"^\s*for \(\w+ = (\d+); \w+ < (\d+);.*begin"),
    "vhdl": re.compile(r"^\s*\w+\s*:\s*for \w+ in (\d+) to (\d+) generate", re.IGNORECASE),
}
_LOOP_END = {"verilog": re.compile(r"^end\b"), "vhdl": re.compile(r"^\s*end generate", re.IGNORECASE)}


class Part(NamedTuple):
    """An instance in a module: its name, the module that it is of, its line from 1 on, and how many there are."""

    name: str
    module: str
    line: int
    many: int


class Module(NamedTuple):
    """A module or entity: where it begins, and what it is made of."""

    file: str
    line: int
    parts: list[Part]


def language_of(file: str) -> str:
    """Of a file by its name; "" where it is of none."""
    return next((language for ending, language in LANGUAGES.items() if file.endswith(ending)), "")


def modules_of(files: Mapping[str, str], language: str) -> dict[str, Module]:
    """The modules or entities of all files of ``language``, by name."""
    mine = {file: text.split("\n") for file, text in files.items() if language_of(file) == language}
    found: dict[str, Module] = {}
    for file, lines in mine.items():
        for number, line in enumerate(lines, 1):
            if begun := _MODULE[language].match(line):
                found.setdefault(begun[1], Module(file, number, []))
    for lines in mine.values():
        for name, part in _parts(lines, language, found):
            found[name].parts.append(part)
    return found


def _parts(lines: list[str], language: str, modules: Mapping[str, Module]) -> Iterator[tuple[str, Part]]:
    """(module, part of it) in the order of the text."""
    names = "|".join(map(re.escape, modules)) or r"(?!)"
    made = {
        "verilog": re.compile(rf"^\s*(?P<of>{names})\s+(?:#\s*\(.*?\)\)\s*|#\s*\([^()]*\)\s*)?(?P<name>\w+)\s*\("),
        "vhdl": re.compile(rf"^\s*(?P<name>\w+)\s*:\s*entity\s+work\.(?P<of>{names})\b", re.IGNORECASE),
    }[language]
    begun = _MODULE["verilog"] if language == "verilog" else _BODY
    inside, many = "", 1
    for number, line in enumerate(lines, 1):
        if head := begun.match(line):
            inside, many = head[1], 1
        elif loop := _LOOP[language].match(line):
            many = int(loop[2]) - int(loop[1]) + (language == "vhdl")
        elif _LOOP_END[language].match(line):
            many = 1
        elif inside in modules and (part := made.match(line)):
            yield inside, Part(part["name"], part["of"], number, many)


def top_of(modules: Mapping[str, Module], wanted: str) -> str:
    """The module to begin with: ``wanted``, or the first that is no part of another; "" without modules."""
    if wanted in modules:
        return wanted
    used = {part.module for module in modules.values() for part in module.parts}
    return next((name for name in modules if name not in used), next(iter(modules), ""))


def marks_of(text: str, language: str) -> bytes:
    """The words of ``text`` that have a colour: pairs of offset and code, little-endian uint32, the offsets rising.

    A code is the place of the kind in ``_KINDS``, counted from 1; 0 ends a word.
    """
    lexer: Lexer | None = {"verilog": VerilogLexer, "vhdl": VhdlLexer}.get(language, lambda: None)()
    pairs: list[tuple[int, int]] = []
    if lexer is not None:
        for offset, kind, _ in lexer.get_tokens_unprocessed(text):
            code = next((number for number, of in enumerate(_KINDS, 1) if kind in of), 0)
            if code != (pairs[-1][1] if pairs else 0):
                pairs.append((offset, code))
    return np.array(pairs, dtype="<u4").tobytes()


def outline(files: Mapping[str, str], top: str) -> dict[str, Any]:
    """Modules by language, as plain data for a page; languages without any are left out."""
    told: dict[str, Any] = {}
    for language in LANGUAGES.values():
        modules = modules_of(files, language)
        if modules:
            body = {name: {**one._asdict(), "parts": [p._asdict() for p in one.parts]} for name, one in modules.items()}
            told[language] = {"top": top_of(modules, top), "modules": body}
    return told
