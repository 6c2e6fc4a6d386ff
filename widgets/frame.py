"""AppFrame: the parts of an app as tabs, each made when it is first opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import traitlets

from codesign_kernel.errors import InvalidInputError
from codesign_widgets.page import Page, script_of, style_of

#: Tabs that fit side by side.
_MOST = 7


class AppFrame(Page):
    """A page of tabs over other widgets.

    A section is one widget or several below one another. One that is given as a callable is made when a reader first
    opens it, and kept: what nobody looks at costs neither time nor a byte of the page. One that gives None has nothing
    to show yet, and is asked again by :meth:`renew`. What the page sends is checked here.

        AppFrame({"One design": playground, "All designs": lambda: DesignExplorer(sweep())})

    Args:
        sections: widgets, or a callable that gives them, by title; the first is open at first.
        label: of the row of tabs, for those who do not see it.
        keep: what a button Keep calls; it gives words to show, such as where what was kept is. No button without.

    Attributes:
        section: title of what is open. opened: lists of the widgets that were made so far, by title.

    Raises:
        InvalidInputError: there is no section, or there are more than fit.
    """

    section = traitlets.Unicode().tag(sync=True, kernel=True)

    _esm = script_of("frame.js")
    _css = style_of("frame.css", "ckx-app")

    def __init__(
        self,
        sections: Mapping[str, Any],
        label: str = "Parts of this app",
        *,
        keep: Callable[[], str] | None = None,
    ) -> None:
        self._sections: dict[str, Callable[[], Any] | Any] = dict(sections)
        self.opened: dict[str, list[Any]] = {}
        if not 1 <= len(sections) <= _MOST:
            raise InvalidInputError(f"a frame has 1 to {_MOST} sections, but got {len(sections)}")
        super().__init__()
        self._keep = keep
        self.setup = {"sections": list(self._sections), "label": label, "keep": keep is not None}
        self.show(next(iter(self._sections)))

    def show(self, section: str) -> None:
        """Show ``section``; what is wrong with it stands in ``answer["error"]``."""
        self.tell(None, {"section": section})

    def renew(self, *titles: str) -> None:
        """Have these sections made anew, when they are looked at next: what they showed is of the past."""
        for title in titles:
            made = self.opened.pop(title, [])
            for widget in reversed(made) if callable(self._sections[title]) else ():
                widget.close()
        self.show(self.section)

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        section = asked.get("section")
        if not isinstance(section, str) or section not in self._sections:
            raise InvalidInputError(
                f"the parts of this app are {', '.join(self._sections)}, but got {str(section)[:40]!r}"
            )
        if section not in self.opened:
            given = self._sections[section]
            made = given() if callable(given) else given
            if made is not None:
                self.opened[section] = [*made] if isinstance(made, (list, tuple)) else [made]
        self.section = section
        models = {title: [widget.model_id for widget in made] for title, made in self.opened.items()}
        kept = self._keep() if self._keep is not None and asked.get("keep") is True else ""
        return {"section": section, "models": models, "kept": kept}

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        """The tab that was asked for."""
        section = asked.get("section")
        return section if isinstance(section, str) and section in self._sections else ""

    def close(self) -> None:
        """Close the sections too."""
        for widget in (widget for made in self.opened.values() for widget in reversed(made)):
            widget.close()
        self.opened, self._sections = {}, {}
        super().close()
