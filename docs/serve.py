"""Bring the tables of docs/serve.md up to date: ``python docs/serve.py``. They come from the code that uses them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from codesign_kernel.server.rates import RATES
from codesign_kernel.server.settings import Settings

PAGE = Path(__file__).with_name("serve.md")


def told() -> dict[str, str]:
    """{setting: what it is}, from the docstring of ``Settings``."""
    text = re.sub(r"\n {12,}", " ", (Settings.__doc__ or "").split("Attributes:\n")[1])
    lines = re.findall(r"^ {8}([a-z_, ]+): (.+)$", text, re.MULTILINE)
    return {name: what for names, what in lines for name in names.split(", ")}


def shown(item: dataclasses.Field[Any]) -> str:
    """A setting's default, for people."""
    if item.default is dataclasses.MISSING:
        return "`gateway` in the user's data folder" if item.name == "data_dir" else "empty"
    if item.default in (None, "", ()):
        return "none"
    return str(item.default).lower() if isinstance(item.default, bool) else str(item.default)


def tables() -> dict[str, str]:
    """{name in the page: its table}."""
    words = told()
    settings = ["| setting | default | what |", "|---|---|---|"]
    for item in dataclasses.fields(Settings):
        what = words[item.name].replace("``", "`").replace("|", "/")
        settings.append(f"| `{item.name}` | {shown(item)} | {what} |")
    rates = ["| rate | limit | what is counted |", "|---|---|---|"]
    rates += [f"| `{name}` | {rate} | {what} |" for name, (rate, what) in RATES.items()]
    return {"settings": "\n".join(settings), "rates": "\n".join(rates)}


def page(text: str) -> str:
    """The page with its tables as they are now."""
    for name, table in tables().items():
        before, rest = text.split(f"<!-- {name} -->\n", 1)
        text = f"{before}<!-- {name} -->\n{table}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
