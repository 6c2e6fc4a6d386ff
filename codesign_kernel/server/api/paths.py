"""The paths of the API as patterns."""

from __future__ import annotations

from collections.abc import Mapping

from codesign_kernel.server.api.routes import ROUTES, Route


def paths() -> list[tuple[str, Mapping[str, Route]]]:
    """(pattern below the API's base, {method: route}); of the last, which is everything else, no route."""
    found: dict[str, dict[str, Route]] = {}
    for route in ROUTES:
        found.setdefault(route.path.replace(".", r"\.").replace("{id}", "(?P<id>[^/]{0,200})"), {})[route.method] = (
            route
        )
    return [*found.items(), ("/.*", {})]
