"""The apps as visitors have them: through a gateway of the test's own, each kernel in a cell."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from browser import ROOT, browse
from gateway import gateway

APPS = ROOT / "voila_apps"


@contextlib.contextmanager
def visited(name: str, ready: str, folder: Path) -> Iterator[Any]:
    """A tab that shows the app ``name`` of a gateway, signed in, once there is something at the selector ``ready``."""
    with gateway(folder, apps_dir=APPS, warm_kernels=0, max_kernels=2) as gate, browse(gate.sign_in, "body") as tab:
        tab.goto(f"{gate.url}apps/{name}", wait_until="commit")
        tab.wait_for_selector(ready, timeout=180_000)
        yield tab


def thin(name: str) -> dict[str, Any]:
    """The notebook of an app, which is stored without outputs and begins with words."""
    notebook: dict[str, Any] = json.loads((APPS / f"{name}.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert notebook["cells"][0]["cell_type"] == "markdown"
    return notebook
