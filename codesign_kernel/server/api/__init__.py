"""The REST API under ``/api/v1``: one table of routes (``routes``), from which the document is written too."""

from __future__ import annotations

from typing import Any


def handlers(services: Any) -> list[tuple[str, type, dict[str, Any]]]:
    """(pattern, handler, its arguments) for every path of the API, below the gateway's base URL."""
    from codesign_kernel.server.api.gateway import ApiHandler
    from codesign_kernel.server.api.paths import paths

    base = f"{services.settings.base_url}api/v1"
    return [(f"/api/v1{path}", ApiHandler, {"routes": found, "base": base}) for path, found in paths()]
