"""Who may do what: the public functions, each with the capability that it needs and the limits that it keeps.

One table, :data:`RULES`. A function of this room checks itself with :func:`scoped`; those of lower rooms, which know
nothing of scopes, are given out from here by the front door, checked in the same way. In a process without a scope a
check is one look at a cached ``None``. A process can be talked into calling a lower room directly; what then still
holds is what the operating system enforces (``docs/scopes.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from importlib import import_module
from inspect import signature
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from codesign_kernel.scopes import Scope, current
from codesign_kernel.session import asked

if TYPE_CHECKING:
    from codesign_kernel.cosim.waveform import read_waves as read_waves
    from codesign_kernel.cosim.wavefront import array_trace as array_trace
    from codesign_kernel.cost.evaluate import evaluate as evaluate
    from codesign_kernel.optimize import fusion_report as fusion_report
    from codesign_kernel.optimize import prune as prune
    from codesign_kernel.optimize import quantize as quantize
    from codesign_kernel.optimize import quantize_aware as quantize_aware
    from codesign_kernel.optimize import sensitivity as sensitivity
    from codesign_kernel.profiler.model import profile as profile
    from codesign_kernel.rtl import check_block as check_block

P = ParamSpec("P")
R = TypeVar("R")
#: What is asked for: from the arguments by name (and behind the call, the result too) to a check of the scope.
Before = Callable[[Scope, Mapping[str, Any]], None]
After = Callable[[Scope, Mapping[str, Any], Any], None]


@dataclass(frozen=True)
class Rule:
    """What a function needs of a scope.

    Attributes:
        capabilities: all of them.
        before: checked before any work, in this order.
        after: checked before the result is given out, where it cannot be known earlier.
        inside: limits that the function keeps itself, as its work goes on.
        limits: what all of these look at: limits, ``models`` and ``templates``; for the documentation.
    """

    capabilities: tuple[str, ...]
    before: tuple[Before, ...] = ()
    after: tuple[After, ...] = ()
    inside: tuple[str, ...] = ()

    @property
    def limits(self) -> tuple[str, ...]:
        outside = [name for check in (*self.before, *self.after) for name in asked.LOOKS_AT[check]]
        return tuple(dict.fromkeys([*outside, *self.inside]))


_LOOP = ("macs", "templates", "designs", "artefact_bytes", "simulated_cycles")
_TRAINED = (asked.model, asked.macs_of_model)
#: {public function: what it needs}. Functions that this room has are checked where they stand.
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "array_trace": Rule(("cosimulate",), (asked.traced_cycles,), (asked.trace_bytes,)),
        "check_block": Rule(("generate",)),
        "co_optimize": Rule(("explore", "optimize"), (*_TRAINED, asked.space, asked.pairs, asked.workers)),
        "cosimulate": Rule(
            ("cosimulate",), (asked.template, asked.macs_of_network, asked.simulated_cycles), (asked.waves_bytes,)
        ),
        "evaluate": Rule(("explore",), (asked.template, asked.macs)),
        "explore": Rule(("explore",), (asked.space, asked.macs, asked.designs, asked.workers)),
        "fusion_report": Rule(("optimize",), _TRAINED),
        "generate_rtl": Rule(("generate",), (asked.template, asked.macs_of_network), (asked.rtl_bytes,)),
        "hardware_loss": Rule(("optimize",), (*_TRAINED, asked.template)),
        "profile": Rule(("profile",), (asked.model,), (asked.macs_of_profile,)),
        "prune": Rule(("optimize",), _TRAINED),
        "quantize": Rule(("optimize",), _TRAINED),
        "quantize_aware": Rule(("optimize",), _TRAINED),
        "read_waves": Rule(("cosimulate",), (asked.file_bytes,)),
        "record_waves": Rule(
            ("cosimulate",), (asked.template, asked.macs_of_network, asked.simulated_cycles), (asked.recording_bytes,)
        ),
        "run_demo": Rule(("cosimulate", "explore", "generate", "optimize", "profile"), inside=_LOOP),
        "run_workflow": Rule((), (asked.workflow,), inside=_LOOP),
        "sensitivity": Rule(("optimize",), _TRAINED),
        "sweep": Rule(("explore",), (asked.space, asked.macs, asked.designs)),
        "synthesise": Rule(("generate",), (asked.template,), (asked.synthesis_bytes,)),
        "verify": Rule(("cosimulate", "generate"), inside=("simulated_cycles",)),
    }
)

#: Public functions of lower rooms: where they are at home.
HOMES = {
    "array_trace": "cosim.wavefront",
    "check_block": "rtl",
    "evaluate": "cost.evaluate",
    "fusion_report": "optimize",
    "profile": "profiler",
    "prune": "optimize",
    "quantize": "optimize",
    "quantize_aware": "optimize",
    "read_waves": "cosim",
    "sensitivity": "optimize",
}


def scoped(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the function keeps the rule of that name in a process that has a scope."""
    rule = RULES[name]

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            scope = current()
            if scope is None:
                return function(*args, **kwargs)
            return _checked(scope, rule, function, args, kwargs)

        return checked

    return decorate


_signature = cache(signature)


def _checked(scope: Scope, rule: Rule, function: Callable[..., R], args: Any, kwargs: Any) -> R:
    for capability in rule.capabilities:
        scope.require(capability)
    bound = _signature(function).bind(*args, **kwargs)  # a call that does not fit raises as it always does
    bound.apply_defaults()
    given = bound.arguments
    for before in rule.before:
        before(scope, given)
    result = function(*args, **kwargs)
    for after in rule.after:
        after(scope, given, result)
    return result


@cache
def _of_a_lower_room(name: str) -> Any:
    checked = scoped(name)(getattr(import_module(f"codesign_kernel.{HOMES[name]}"), name))
    checked.__module__ = __name__  # a function of a notebook that names it is sent to workers by where it is found
    return checked


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _of_a_lower_room(name)
