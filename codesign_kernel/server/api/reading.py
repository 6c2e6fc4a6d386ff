"""What a request says, read strictly: JSON without NaN, infinities, doubled keys, odd text or depth, then a schema."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

#: Values may be nested that deep, and a number may have that many digits.
DEPTH, DIGITS = 12, 40
#: Below it a float holds every whole number.
_EXACT = 2.0**53
#: A body of JSON at most (bytes).
JSON_BYTES = 1 << 20


class Refusal(Exception):
    """A request that is answered with an error: the status, a word for programs, a sentence for people.

    ``after_s``: when to try again (Retry-After).
    """

    def __init__(self, status: int, code: str, message: str, after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.after_s = status, code, message, after_s


def read_json(body: bytes) -> Any:
    """The value of a body.

    Raises:
        Refusal: 400, it is no JSON or has what no request needs.
    """
    if len(body) > JSON_BYTES:
        raise Refusal(413, "too_large", f"a request has at most {JSON_BYTES:,} bytes, but this has {len(body):,}")
    try:
        value = json.loads(
            body.decode("utf-8"), parse_constant=_constant, parse_float=_float, parse_int=_int, object_pairs_hook=_pairs
        )
    except RecursionError:
        raise _bad(f"values are nested at most {DEPTH} deep; flatten the request") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise _bad(f"the body is JSON in UTF-8, but it is not: {str(error)[:120]}") from error
    _check(value, 0)
    return value


def _bad(message: str) -> Refusal:
    return Refusal(400, "malformed", message)


def _constant(text: str) -> Any:
    raise _bad(f"numbers are finite, but the body has {text}; leave it out")


def _float(text: str) -> float | int:
    value = float(text)
    if len(text) > DIGITS or not math.isfinite(value):
        raise _bad(f"a number is finite and has at most {DIGITS} characters, but the body has {text[:20]}...")
    # JSON has one kind of numbers, and to a schema 2.0 is an integer: it is one to what comes behind it, too
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _int(text: str) -> int:
    if len(text) > DIGITS:
        raise _bad(f"a number has at most {DIGITS} characters, but the body has one of {len(text):,}")
    return int(text)


def _pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _bad("an object has each key once, but the body has one twice")
    return found


def _check(value: Any, depth: int) -> None:
    """Depth, and texts that a database or a page cannot hold."""
    if depth > DEPTH:
        raise _bad(f"values are nested at most {DEPTH} deep; flatten the request")
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            check_text(key)
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)


def check_text(text: str) -> None:
    """Refuse control characters and halves of characters.

    Raises:
        Refusal: 400.
    """
    if any((ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise _bad("a text holds characters that can be shown, but one has a control character or half of one")


@cache
def _validator(name: str) -> Draft202012Validator:
    from codesign_kernel.server.api.schemas import SCHEMAS

    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": {"schemas": dict(SCHEMAS)}})


def check_schema(name: str, value: Any) -> None:
    """Refuse what the schema ``name`` does not allow.

    Raises:
        Refusal: 422; the message names the field and its law.
    """
    error = next(iter(_validator(name).iter_errors(value)), None)
    if error is None:
        return
    while error.context:  # of several ways to be right, tell of the one that came nearest
        wrong = {one.schema_path[0] for one in error.context if one.validator == "type" and not one.relative_path}
        fits = [one for one in error.context if one.schema_path[0] not in wrong] or error.context
        if all(one.validator == "required" for one in fits):
            needs = " or ".join(", ".join(one.validator_value) for one in fits)
            raise Refusal(422, "invalid", f"{_place(error)}: needs {needs}")
        error = max(fits, key=lambda one: len(one.absolute_path))
    raise Refusal(422, "invalid", f"{_place(error)}: {_law(error)}")


def _place(error: Any) -> str:
    return (".".join(str(part) for part in error.absolute_path) or "the body")[:120]


def _law(error: Any) -> str:
    """The law that was broken; the value only where it is short, because it comes from outside."""
    rule, wanted = error.validator, error.validator_value
    if rule == "additionalProperties":
        unknown = sorted(set(error.instance) - set(error.schema.get("properties", {})))
        known = ", ".join(error.schema.get("properties", {}))
        return f"has the keys {known}, but got {', '.join(f'{key!r:.40}' for key in unknown[:3])}"
    if rule == "required":
        return f"needs {', '.join(key for key in wanted if key not in error.instance)}"
    got = f"{error.instance!r:.60}" if not isinstance(error.instance, dict | list) else type(error.instance).__name__
    choices = ", ".join(map(str, wanted)) if isinstance(wanted, list) else ""
    words = {
        "type": f"is of type {wanted}",
        "enum": f"is one of {choices}",
        "maximum": f"is at most {wanted}",
        "minimum": f"is at least {wanted}",
        "maxItems": f"has at most {wanted} entries",
        "minItems": f"has at least {wanted} entries",
        "maxLength": f"has at most {wanted} characters",
        "minLength": f"has at least {wanted} characters",
        "pattern": f"matches {wanted}",
        "maxProperties": f"has at most {wanted} keys",
        "not": "has template, or fields of its own, not both",
        "uniqueItems": "has each entry once",
        "oneOf": "has one of the alternatives, not several",
    }
    return f"{words.get(rule) or 'follows its schema'}, but got {got}"
