"""Numbers of the command line: what each may be, and the sentence where it is not."""

from __future__ import annotations

import argparse


def whole(text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        bounds = f"of {low} to {high}" if high < 2**31 else f">= {low}"
        raise argparse.ArgumentTypeError(f"must be an integer {bounds}, but got {text!r}")
    return value


def count(text: str) -> int:
    return whole(text, 1, 2**31)


def seed(text: str) -> int:
    return whole(text, 0, 2**31 - 1)


def port(text: str) -> int:
    return whole(text, 0, 65_535)


def window(text: str) -> tuple[int, int]:
    """``A:B`` as two cycles."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"is FIRST:LAST, two cycles in order, but got {text!r}")
    return int(first), int(last)
