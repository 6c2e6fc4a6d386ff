"""What somebody made in an app, kept by the gateway among their artefacts: what the button Keep does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from codesign_kernel.client import VARIABLE, Client
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.session import designs
from codesign_kernel.session.catalogue import exported
from codesign_kernel.uploads import safe_name

if TYPE_CHECKING:
    import pandas as pd

    from codesign_kernel.profiler.result import Profile

Made = tuple[str, Mapping[str, Any]]
#: Rows of a front and of pinned designs.
ROWS = 500
WHERE = "Kept as {name}; your account page has it."


def keeper(made: Callable[[], Made]) -> Callable[[], str] | None:
    """What a button Keep calls: keeps what ``made`` gives, (name, plain data), and says where it is.

    ``None`` in a notebook of one's own, where no gateway keeps anything.
    """
    if VARIABLE not in os.environ:
        return None

    def keep() -> str:
        name, content = made()
        client = Client.here()
        if client is None:
            raise InvalidInputError("a gateway keeps things, and here is none; save a file instead")
        with client:
            return WHERE.format(name=client.keep(safe_name(name)[:80], content)["name"])

    return keep


def profile(found: Profile) -> Made:
    """A profile with all of its layers."""
    name, content = exported(found, "json")
    return f"profile {name.removesuffix('.json')}", json.loads(content)


def exploration(network: str, workload: Any, parameters: Mapping[str, Any], chosen: Any = None) -> Made:
    """One design and the front around it; with ``chosen``, a ``DesignExplorer``, also what its limits leave of all.

    ``workload``: of ``network``. ``parameters``: of the one design, conditions included.
    """
    conditions = {name: value for name, value in parameters.items() if name not in designs.FEW}
    told: dict[str, Any] = {
        "format": "codesign-exploration 1", "network": network, "design": dict(parameters),
        "front": rows(designs.front(designs.few(workload, conditions))),
    }  # fmt: skip
    if chosen is not None:
        told["all"] = {
            "conditions": chosen.choice["conditions"], "limits": chosen.choice["ranges"],
            "designs_left": len(chosen.selected), "front": rows(designs.front(chosen.selected)),
            "pinned": rows(chosen.pinned),
        }  # fmt: skip
    return f"designs {network}", told


def lesson(sizes: Mapping[str, int], own: Mapping[str, str] | None, view: Mapping[str, Any], right: int) -> Made:
    """The array of the classroom: sizes, one's own numbers, where one looks, and questions that were answered right."""
    told = {"format": "codesign-lesson 1", "sizes": dict(sizes), "own": own, "view": dict(view), "right": right}
    return "array {m}x{k}x{n}".format(**{name: sizes.get(name, "") for name in "mkn"}), told


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The first rows of a table as plain data."""
    found: list[dict[str, Any]] = json.loads(frame.head(ROWS).reset_index().to_json(orient="records"))
    return found
