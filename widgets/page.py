"""Page: what all widgets of this package share, in the kernel and in the browser."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

import anywidget
import ipywidgets
import traitlets

from codesign_kernel.errors import CodesignError
from codesign_kernel.figures import theme
from codesign_widgets.plotly_bundle import PlotlyBundle

_LOG = logging.getLogger(__name__)
#: In a style: what stands before a block of declarations; a comma between two selectors.
_SELECTOR = re.compile(r"(?:(?<=[{};])|^)(\s*)([^{};@\s][^{};@]*?)\s*\{")
_COMMA = re.compile(r",(?![^()]*\))")
#: What every widget has, and no page sets.
_COMMON = frozenset(anywidget.AnyWidget.class_trait_names())
#: The end of the whole numbers that JavaScript counts one by one.
_COUNTED = 2**53


def text_of(name: str) -> str:
    """A script or style of this package."""
    return resources.files("codesign_widgets").joinpath(name).read_text(encoding="utf-8")


def script_of(*names: str) -> str:
    """The scripts ``names`` behind what they build on: figures, and what all pages share."""
    return theme.script() + "".join(text_of(name) for name in ("page.js", *names))


def style_of(name: str = "", root: str = "") -> str:
    """The style ``name`` behind those that all pages share.

    A notebook shows many widgets in one document, so what ``name`` says holds for elements of the class ``root`` and
    those in them alone. That counts as one class more: it stands above the shared rules wherever these are repeated.
    """
    shared = theme.static("figure.css") + text_of("page.css")
    if not name:
        return shared
    here = f":is(.{root}, .{root} *)"

    def within(rule: re.Match[str]) -> str:
        ends = (re.match(r"(.*?)(::[\w-]+)?$", one.strip(), re.DOTALL) for one in _COMMA.split(rule[2]))
        return rule[1] + ", ".join(f"{end[1]}{here}{end[2] or ''}" for end in ends if end) + " {"

    return shared + _SELECTOR.sub(within, re.sub(r"/\*.*?\*/", "", text_of(name), flags=re.DOTALL))


class Page(anywidget.AnyWidget):
    """A view that asks and is answered: the page sends a question (``query``), the kernel checks it and answers.

    A page can set any trait to anything, but for those tagged ``kernel=True``, which are the kernel's own: what a page
    sends for them is dropped. So a question is untrusted: :meth:`respond` checks each field of it, and whatever a
    question holds, the answer is a result or a message. A subclass gives ``_esm = script_of(...)`` and
    ``_css = style_of(...)``, calls ``super().__init__()``, fills ``setup`` and then ``answer``.

    Attributes:
        query: {"seq": its number, ...}, as the page sent it. answer: {"seq": of the question, "error": None or
            {"control": name or "", "text": sentence}, ...}. setup: what stays as long as the widget lives.
    """

    query = traitlets.Any().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True, kernel=True)
    setup = traitlets.Dict().tag(sync=True, kernel=True)
    bundle = traitlets.Instance(PlotlyBundle).tag(sync=True, kernel=True, **ipywidgets.widget_serialization)

    _last_seq = 0  # of the question answered last; pages that draw what is new know it as an answer to theirs

    def __init__(self) -> None:
        super().__init__(bundle=PlotlyBundle.shared())
        self.observe(self._asked, "query")

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Set what a page sends, but for what is the kernel's own."""
        owned = _COMMON.union(self.trait_names(kernel=True))
        super().set_state({n: v for n, v in sync_data.items() if n not in owned and not n.startswith("_")})

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The fields of the answer to a question, which may hold anything.

        Raises:
            CodesignError: the question makes no sense, or has no answer; its text is shown to the reader.
        """
        raise NotImplementedError(f"{type(self).__name__} implements respond()")

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        """The control beside which a message stands; "" is none of them."""
        return ""

    def tell(self, seq: int | None, asked: dict[str, Any]) -> None:
        """Answer a question; what is wrong with it stands in ``answer["error"]``, beside the last answer.

        ``seq`` is None where no page asked: the answer has the number of the last one, and takes its place.
        """
        seq = self._last_seq = self._last_seq if seq is None else seq
        try:
            answer = {"seq": seq, "error": None, **self.respond(asked)}
        except CodesignError as error:
            answer = self._refusal(seq, str(error), asked)
        except KeyboardInterrupt:
            self.answer = self._refusal(seq, "the kernel was interrupted while it worked this out; ask again", asked)
            raise
        except Exception as error:  # the outermost edge: without an answer the page would wait for ever
            _LOG.exception("a question to %s failed", type(self).__name__)
            told = f"this failed ({type(error).__name__}); the kernel's log has the details"
            answer = self._refusal(seq, told, asked)
        self.answer = answer

    def _refusal(self, seq: int, message: str, asked: dict[str, Any]) -> dict[str, Any]:
        return {**self.answer, "seq": seq, "error": {"control": self.blame(message, asked), "text": sentence(message)}}

    def _asked(self, change: Mapping[str, Any]) -> None:
        query = change["new"]
        asked = query if isinstance(query, dict) else {}
        seq = asked.get("seq")
        self.tell(seq if isinstance(seq, int) and 0 <= seq < _COUNTED else 0, asked)

    def close(self) -> None:
        """Free what the widget holds in the kernel and in the page; the bundle stays, as others share it."""
        self.unobserve_all()
        self.layout.close()  # a model of its own, which ipywidgets leaves behind
        super().close()


def sentence(message: object) -> str:
    """A message as a sentence."""
    text = str(message)
    return f"{text[:1].upper()}{text[1:]}."
