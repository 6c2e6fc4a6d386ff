"""ArrayQuiz: questions about what an ArrayAnimator shows, answered out of its trace."""

from __future__ import annotations

import math
from typing import Any

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures.quiz import Question, judged, questions
from codesign_widgets.array import ArrayAnimator
from codesign_widgets.page import Page, script_of, style_of

ACTIONS = ("check", "show", "other")


class ArrayQuiz(Page):
    """A page of questions about the trace that an animator shows: other sizes or another dataflow ask anew.

    The answers stay in the kernel until a question is answered or given up. *Show me* takes the animator to the cycle
    and the element that a question is about.

    Args:
        animator: what is asked about. seed: of the first questions.
    """

    _esm = script_of("quiz.js")
    _css = style_of("quiz.css", "ckx-quiz")

    def __init__(self, animator: ArrayAnimator, seed: int = 0) -> None:
        super().__init__()
        self._animator, self._seed = animator, seed
        self._about: Any = None
        self._asked_for: tuple[Question, ...] = ()
        self._told: dict[int, dict[str, Any]] = {}
        animator.observe(self._changed, ["view", "answer"])
        self.tell(0, {})

    @property
    def questions(self) -> tuple[Question, ...]:
        """Those that are asked now."""
        return self._asked_for

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        action = asked.get("action")
        if action is not None and action not in ACTIONS:
            raise InvalidInputError(f"an action is one of {', '.join(ACTIONS)}, but got {str(action)[:40]!r}")
        if action == "other":
            self._seed += 1
        self._ask(anew=action == "other")
        if action in ("check", "show"):
            at = asked.get("at")
            if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < len(self._asked_for):
                raise InvalidInputError(f"questions are numbered 0 to {len(self._asked_for) - 1}, but got {at!r:.40}")
            if action == "check":
                self._check(at, asked.get("value"))
            else:
                self._show(at)
        right = sum(told.get("right") is True for told in self._told.values())
        rows = [
            {"text": one.text, "unit": one.unit, **self._told.get(at, {"right": None, "words": ""})}
            for at, one in enumerate(self._asked_for)
        ]
        return {"questions": rows, "right": right, "about": self._words()}

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        """The question that was answered."""
        return str(asked.get("at", ""))[:4]

    def _trace(self) -> Any:
        shown = self._animator.view.get("label", "")
        return self._animator.traces.get(shown, next(iter(self._animator.traces.values())))

    def _ask(self, anew: bool) -> None:
        trace = self._trace()
        if trace is not self._about or anew:
            self._about, self._told = trace, {}
            self._asked_for = questions(trace, self._seed)

    def _check(self, at: int, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InvalidInputError("an answer is a number; type one")
        right, words = judged(self._asked_for[at], float(value))
        self._told[at] = {"right": right, "words": words, "value": value}

    def _show(self, at: int) -> None:
        question = self._asked_for[at]
        self._animator.show(question.cycle, question.pe)
        answer = f"{question.answer:.3g}" if question.tolerance else f"{question.answer:.0f}"
        if self._told.get(at, {}).get("right") is not True:
            unit = f" {question.unit}" if question.unit else ""
            self._told[at] = {"right": None, "words": f"It is {answer}{unit}. {question.why}"}

    def _words(self) -> str:
        trace = self._trace()
        (m, k), n = trace.a.shape, trace.b.shape[1]
        return f"{m} × {k} by {k} × {n} on {trace.rows} × {trace.cols} PEs, {trace.stationary} stay"

    def _changed(self, _: Any) -> None:
        if self._trace() is not self._about:
            self.tell(None, {})

    def close(self) -> None:
        """Let go of the animator, which stays; ipywidgets may call this again."""
        if self.comm is not None:
            self._animator.unobserve(self._changed, ["view", "answer"])
        self._about, self._asked_for = None, ()
        super().close()
