"""What a workflow needs of the machine and of its network, checked before the first step runs."""

from __future__ import annotations

from codesign_kernel.errors import CodesignError, InvalidInputError
from codesign_kernel.session.workflow.product import Progress, load_task
from codesign_kernel.session.workflow.settings import TASKS, Workflow


def check_before(workflow: Workflow, steps: set[str], progress: Progress | None) -> None:
    """Refuse what would stop one of ``steps``, which are to run, after others have worked for it.

    Raises:
        InvalidInputError: see :func:`check_named`, or there are fewer inputs than are asked for.
        SimulatorError: the simulator does not run here.
    """
    check_named(workflow, steps)
    asked = [(step, workflow.steps[step][what], what) for step, what in _IMAGES if step in steps]
    if workflow.trained is not None and any(count for _, count, _ in asked):
        there = len(load_task(workflow.trained, progress).test_y)
        for step, count, what in asked:
            if count is not None and count > there:
                raise InvalidInputError(
                    f"{workflow.source}: {step}.{what}: there are {there} test inputs, but got {count}; take fewer"
                )


def check_named(workflow: Workflow, steps: set[str]) -> None:
    """The part of :func:`check_before` that makes no data, which may take minutes: it is asked for a plan too.

    Raises:
        InvalidInputError: there is no such network or layer.
        SimulatorError: the simulator does not run here.
    """
    at = f"{workflow.source}: "
    name = workflow.network.get("zoo")
    if name is not None and "profile" in steps:
        from codesign_kernel.profiler import zoo

        if name not in zoo.names():
            raise InvalidInputError(
                f"{at}network: is {', '.join(TASKS)}, a file of .onnx or .pt2, or one of the zoo "
                f"({', '.join(zoo.names())}), but got {name!r}"
            )
    if "optimise" in steps:
        _check_layers(workflow)
    if "cosimulate" in steps:
        from codesign_kernel.cosim import find_simulator

        try:
            find_simulator(workflow.steps["cosimulate"]["simulator"])
        except CodesignError as error:
            raise type(error)(f"{at}cosimulate.simulator: {error}") from error


def _check_layers(workflow: Workflow) -> None:
    """The layers that settings name are there."""
    given = {what: workflow.steps["optimise"][what] for what in ("weight_bits", "keep")}
    named = {what: names for what, names in given.items() if isinstance(names, dict) and names}
    if not named:
        return
    from codesign_kernel.optimize.networks import NETWORKS

    assert workflow.trained is not None
    model, _ = NETWORKS[workflow.trained[1]].untrained()
    there = [name for name, module in model.named_modules() if type(module).__name__ in ("Conv2d", "Linear")]
    for what, names in named.items():
        for name in names:
            if name not in there:
                raise InvalidInputError(
                    f"{workflow.source}: optimise.{what}: names layers of the network ({', '.join(there)}), "
                    f"but got {name!r}"
                )


#: Settings that count test inputs.
_IMAGES = (("generate", "vectors"), ("cosimulate", "images"))
