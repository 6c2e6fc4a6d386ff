"""The explorer of models: what it says of a profile, what it makes of hostile choices, and the page in a browser."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

import codesign_kernel as ck
from codesign_kernel.errors import InvalidInputError

codesign_widgets = pytest.importorskip("codesign_widgets")

from browser import Served, browse, check_looks  # noqa: E402 - behind what they need

#: Two networks whose layers share names, one with joins.
CELL = """
import codesign_kernel as ck
from codesign_widgets import ModelExplorer
ModelExplorer({"ResNet-50": ck.profile("resnet50"), "ResNet-18": ck.profile("resnet18")})
"""


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_links_its_views_in_a_browser(pages: Served) -> None:
    with browse(pages.page("models", CELL), ".ckx-models .ck-plot .main-svg") as tab:
        check_looks(tab, "models")
