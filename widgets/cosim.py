"""CosimPanel: run a co-simulation, watch it, stop it, and read what it found."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import traitlets

from codesign_kernel.errors import CodesignError, InvalidInputError, StoppedError
from codesign_kernel.figures import causes, theme
from codesign_kernel.figures.cosim import Checked, cosim_figure, cosim_info
from codesign_kernel.units import quantity
from codesign_widgets.cosim_words import difference, layers_of, lines_of, slipped
from codesign_widgets.page import Page, script_of, sentence, style_of

_LOG = logging.getLogger(__name__)
#: The least time between two words of progress (s).
_PACE_S = 0.1
#: How long :meth:`CosimPanel.close` waits for a job that was told to stop (s).
_PATIENCE_S = 60.0
#: States in which a job is under way.
BUSY = ("running", "stopping")


class Report(Checked, Protocol):
    """What a job gives: see :class:`codesign_kernel.CosimReport`."""

    @property
    def schedule(self) -> Sequence[Any]: ...


Progress = Callable[[int, int, str], None]
Run = Callable[[str, int, Progress, Callable[[], bool]], Report]


class CosimPanel(Page):
    """A page that runs co-simulations, one at a time, in a thread of the kernel.

    Args:
        run: ``run(simulator, vectors, progress, stop)`` gives the report. It calls ``progress(done, total, message)``,
            and ends with a StoppedError soon after ``stop()`` says so: as :func:`codesign_kernel.cosimulate` does with
            its ``progress=`` and ``stop=``.
        choices: {simulator: why it does not run here, or ""}, as :func:`codesign_kernel.simulators` gives it.
        most: inputs that there are. vectors: how many of them to run at first.
        report: what is shown before the first job, of a co-simulation that ran elsewhere.
        begin: start the first job at once.

    Attributes:
        report: of the last job that came to its end, or as given; ``None`` without, and while a job runs.

    Raises:
        InvalidInputError: no simulator runs here, or the numbers make no sense.
    """

    #: {"done", "total", "what"} of the job under way, {} without.
    progress = traitlets.Dict().tag(sync=True, kernel=True)

    _esm = script_of("cosim.js")
    _css = style_of("cosim.css", "ckx-cosim")

    # until there is something to stop
    _stop: threading.Event | None = None
    _job: threading.Thread | None = None

    def __init__(
        self,
        run: Run,
        choices: Mapping[str, str],
        most: int,
        vectors: int | None = None,
        report: Report | None = None,
        begin: bool = False,
    ) -> None:
        able = [name for name, missing in choices.items() if not missing]
        if not able:
            raise InvalidInputError(
                "a panel needs a simulator that runs here, but there is none; see `codesign doctor`"
            )
        first = min(most, 10) if vectors is None else vectors
        if not 1 <= first <= most:
            raise InvalidInputError(f"vectors is between 1 and {most}, but got {first}")
        super().__init__()
        self._run, self._choices, self._most = run, dict(choices), most
        self._turn = threading.RLock()  # the job's thread and the page's questions take turns
        self._chosen: dict[str, Any] = {"simulator": able[0], "vectors": first}
        self._state, self._told = "idle", ""
        self._result: dict[str, Any] | None = None if report is None else result_of(report)
        self._shown_s = 0.0
        self.report = report
        self.setup = {"choices": self._choices, "most": most}
        self.tell(0, {"do": "run", **self._chosen} if begin else {"do": "look"})

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self._state in BUSY

    def start(self, simulator: str | None = None, vectors: int | None = None) -> None:
        """Begin a job, as the button does; what is wrong with it stands in ``answer["error"]``."""
        asked = {"do": "run", **self._chosen}
        asked |= {name: given for name, given in (("simulator", simulator), ("vectors", vectors)) if given is not None}
        self.tell(None, asked)

    def cancel(self) -> None:
        """Stop the job under way, as the button does."""
        self.tell(None, {"do": "cancel"})

    def wait(self, timeout_s: float | None = None) -> Report | None:
        """The report, once the job under way has ended; ``None`` where it has not by then, or has none."""
        job = self._job
        if job is not None:
            job.join(timeout_s)
        return None if self.busy else self.report

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        deed = asked.get("do")
        if deed == "run":
            self._begin(*self._checked(asked.get("simulator"), asked.get("vectors")))
        elif deed == "cancel":
            if self.busy and self._stop is not None:
                self._stop.set()
                self._state = "stopping"
        elif deed != "look":
            raise InvalidInputError(f"a panel is asked to run, cancel or look, but got {str(deed)[:40]!r}")
        return {"state": self._state, "told": self._told, "chosen": self._chosen, "result": self._result}

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        return next((name for name in ("simulator", "vectors") if message.startswith(name)), "")

    def tell(self, seq: int | None, asked: dict[str, Any]) -> None:
        with self._turn:
            super().tell(seq, asked)

    def close(self) -> None:
        """Stop the job under way, wait until its thread has ended, and free what the page holds."""
        job = self._job
        if self._stop is not None:
            self._stop.set()
        if job is not None and job is not threading.current_thread():
            job.join(_PATIENCE_S)
        super().close()

    def _checked(self, simulator: object, vectors: object) -> tuple[str, int]:
        if not isinstance(simulator, str) or simulator not in self._choices:
            raise InvalidInputError(f"simulator is one of {', '.join(self._choices)}, but got {str(simulator)[:40]!r}")
        if self._choices[simulator]:
            raise InvalidInputError(f"simulator {simulator} does not run here: {self._choices[simulator]}")
        if isinstance(vectors, bool) or not isinstance(vectors, int) or not 1 <= vectors <= self._most:
            raise InvalidInputError(f"vectors is a whole number from 1 to {self._most}, but got {str(vectors)[:40]!r}")
        return simulator, vectors

    def _begin(self, simulator: str, vectors: int) -> None:
        if self.busy:
            raise InvalidInputError("one co-simulation runs at a time; cancel it, or wait for its end")
        self._chosen = {"simulator": simulator, "vectors": vectors}
        self._state, self._told, self._result, self.report = "running", "", None, None
        stop = self._stop = threading.Event()
        self.progress = {"done": 0, "total": vectors, "what": "getting ready"}
        self._job = threading.Thread(
            target=self._work, args=(simulator, vectors, stop), name="codesign cosim", daemon=True
        )
        self._job.start()

    def _work(self, simulator: str, vectors: int, stop: threading.Event) -> None:
        """The job, in its thread."""
        state, told = "failed", "It ended without a result; the kernel's log has the details."
        began = time.monotonic()
        try:
            report = self._run(simulator, vectors, self._progressed, stop.is_set)
            self._result = result_of(report, time.monotonic() - began)
            self.report, state, told = report, "done", ""
        except StoppedError:
            state, told = "stopped", f"Stopped after {quantity(time.monotonic() - began, 's')}; nothing was compared."
        except CodesignError as error:
            told = sentence(error)
        except Exception as error:  # the outermost edge of a thread
            _LOG.exception("a co-simulation failed")
            told = f"This failed ({type(error).__name__}); the kernel's log has the details."
        finally:
            with self._turn:
                self._state, self._told, self.progress = state, told, {}
            self.tell(None, {"do": "look"})

    def _progressed(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if done == total or what != self.progress.get("what") or now - self._shown_s >= _PACE_S:
            self._shown_s = now
            self.progress = {"done": done, "total": total, "what": what}


def result_of(report: Report, wall_s: float | None = None) -> dict[str, Any]:
    """What a page shows of a report: verdict, key figures, first differences, figures, and cycles by instruction."""
    info = cosim_info(report)
    return {
        "passed": report.passed,
        "verdict": verdict(report),
        "tiles": _tiles(report, wall_s),
        "mismatch": difference(report),
        "slip": slipped(report),
        "cosim": theme.page_spec(cosim_figure(info), "cosim"),
        "causes": theme.page_spec(causes.plot_causes(report.causes), "causes"),
        "layers": layers_of(report.schedule),
        "lines": lines_of(report.schedule),
        "instructions": len(report.schedule),
    }


def verdict(report: Report) -> str:
    """Whether the RTL does what was promised, in one sentence.

    An input and a cycle too many are named apart, because they have other reasons.
    """
    inputs = "the only input" if report.vectors == 1 else f"all {report.vectors:,} inputs"
    if report.passed:
        return f"Proven: {inputs}, bit for bit and cycle for cycle as predicted"
    faults = []
    if report.mismatches:
        differ = "differs" if report.mismatches == 1 else "differ"
        faults.append(f"{report.mismatches:,} of {report.vectors:,} inputs {differ} in their bits")
    if report.instruction_mismatches or report.cycles_rtl != report.cycles_model or report.cycle_mismatches:
        faults.append("the cycles are not those predicted")
    return f"Not proven: {' and '.join(faults) or 'loading the weights took another number of cycles'}"


def _tiles(report: Report, wall_s: float | None) -> list[dict[str, str]]:
    same = report.cycles_rtl == report.cycles_model == report.cycles_program and not report.cycle_mismatches
    agree = report.vectors - report.mismatches
    return [
        {
            "label": "Bits",
            "value": "✓ equal" if not report.mismatches else "✗ differ",
            "note": f"{agree:,} of {report.vectors:,} inputs agree",
            "state": "good" if not report.mismatches else "bad",
        },
        {
            "label": "Cycles",
            "value": "✓ equal" if same else "✗ differ",
            "note": f"RTL {report.cycles_rtl:,}, predicted {report.cycles_model:,}",
            "state": "good" if same else "bad",
        },
        {
            "label": "Instructions",
            "value": "✓ on time" if not report.instruction_mismatches else "✗ off",
            "note": f"{len(report.schedule):,} in a run, each compared",
            "state": "good" if not report.instruction_mismatches else "bad",
        },
        {"label": "Ran on", "value": report.simulator, "note": "" if wall_s is None else f"in {quantity(wall_s, 's')}"},
    ]
