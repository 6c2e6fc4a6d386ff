"""Shown: how a result shows itself in a notebook.

Results stand on low floors and what draws them, the figures, on a high one; a result that imported it would turn the
house upside down, and load plotly with every profile. So this is a door and no more: a result inherits
:class:`Shown`, and what it looks like is asked for by the name of its class in ``figures/cards.py``, when it is shown
and not before. tests/test_house.py allows this one import upwards, inside a function, and no other.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

PLAIN, HTML, PLOTLY = "text/plain", "text/html", "application/vnd.plotly.v1+json"
KINDS = (PLAIN, HTML, PLOTLY)


class Shown:
    """A result that notebooks show richly: as words, as a small table, and as a figure where one tells something."""

    __slots__ = ()

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        """What IPython shows: {MIME type: content}, of ``KINDS``.

        The words are always there; a form that cannot be made (its package is missing, a store is closed, there is
        nothing to draw) is left out. A terminal shows the words alone, so that nothing else is made for it.

        Args:
            include: the types wanted; all without. exclude: those not wanted, even if included.
        """
        wanted = [kind for kind in KINDS if kind in (_usual() if include is None else include)]
        wanted = [kind for kind in wanted if kind not in (exclude or ())]
        shown = {PLAIN: str(self)} if PLAIN in wanted else {}
        rich = [kind for kind in wanted if kind != PLAIN]
        if rich:
            try:
                from codesign_kernel.figures.cards import shown_as
            except ImportError:  # an installation without what figures are drawn with: the words stand
                return shown
            shown |= shown_as(self, rich)
        return shown


def _usual() -> Collection[str]:
    """The types that the front end shows: of a terminal, which IPython asks the same, text alone."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    active: Collection[str] = shell.display_formatter.active_types if shell is not None else ()
    return (PLAIN,) if [*active] == [PLAIN] else KINDS
