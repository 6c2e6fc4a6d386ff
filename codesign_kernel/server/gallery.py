"""The gallery: the apps that somebody may open, what each does, and what it may do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from codesign_kernel.scopes import CAPABILITIES, LIMITS, Scope
from codesign_kernel.server.apps import App
from codesign_kernel.server.visits import PageHandler
from codesign_kernel.store.people import Person
from codesign_kernel.units import quantity

#: {capability: the word on a card}.
WORDS = {
    "profile": "profile", "explore": "explore", "optimize": "optimise", "generate": "generate RTL",
    "cosimulate": "co-simulate", "upload": "upload", "cluster": "use the cluster", "admin": "administer",
}  # fmt: skip
#: {limit: (the capability that it matters to, what is said)}; None: always.
_TOLD = {
    "macs": ("profile", "models up to {} an inference"),
    "designs": ("explore", "explorations of up to {}"),
    "simulated_cycles": ("cosimulate", "co-simulations of up to {}"),
    "upload_bytes": ("upload", "files up to {}"),
    "wall_s": (None, "open for up to {}"),
    "memory_bytes": (None, "{} of memory"),
}


def limit_words(name: str, value: int) -> str:
    """A limit's value as people write it: ``20.0 GMAC``, ``30 min``, ``2.00 GiB``, ``200,000 designs``."""
    unit = LIMITS[name].unit
    if unit == "byte":
        return quantity(value, "B")
    if unit == "cycles":
        return f"{value:,} cycles"
    if unit == "MAC":
        return quantity(value, "MAC")
    if unit == "s":
        for size, word in ((86_400, "days"), (3600, "h"), (60, "min")):
            if value >= 2 * size or (value >= size and not value % size):
                return f"{value / size:g} {word}" if not value % size else f"{value / size:.1f} {word}"
    return f"{value:,} {unit}"


def may_words(scope: Scope) -> list[str]:
    """What an app may do, a line each: capabilities in words, then the limits that matter to them."""
    lines = [f"may {words}" for name, words in CAPABILITIES.items() if scope.may(name)]
    for name, (capability, words) in _TOLD.items():
        if capability is None or scope.may(capability):
            lines.append(words.format(limit_words(name, scope.limits[name])))
    lines.append(
        "no network" if scope.network == "none" else "reaches the cluster through the server, no other network"
    )
    return lines


def cards(apps: Iterable[App], person: Person) -> list[dict[str, Any]]:
    """What the gallery shows to ``person``: the apps that they may open, by title."""
    mine = [app for app in apps if person.has_role(app.scope.open_to)]
    return [
        {
            "name": app.name,
            "title": app.title,
            "summary": app.scope.summary,
            "picture": app.picture is not None,
            "can": [word for name, word in WORDS.items() if app.scope.may(name)],
            "may": may_words(app.scope),
        }
        for app in sorted(mine, key=lambda app: (app.title.casefold(), app.name))
    ]


class GalleryHandler(PageHandler):
    """``/``."""

    def get(self) -> None:
        """The page."""
        person = self.person
        self.show("gallery.html", cards=cards(self.services.apps.values(), person), role=person.role)
