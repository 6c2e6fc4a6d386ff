"""Run a workflow: each step once for its settings and inputs, whoever asks and how often it was cut off."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from codesign_kernel.errors import CodesignError, InvalidInputError
from codesign_kernel.session.scoped import scoped
from codesign_kernel.session.workflow.checks import check_before, check_named
from codesign_kernel.session.workflow.code import code_of
from codesign_kernel.session.workflow.product import Job, Product, Progress
from codesign_kernel.session.workflow.result import StepResult, WorkflowResult
from codesign_kernel.session.workflow.settings import Workflow, read_workflow
from codesign_kernel.session.workflow.steps import FUNCTIONS
from codesign_kernel.store import Record, Store, digest_of

#: What a store can be given as: a Store, or what one is opened with.
Place = Store | str | os.PathLike[str] | None


@scoped("run_workflow")
def run_workflow(
    workflow: str | os.PathLike[str] | Mapping[str, Any],
    *,
    store: Place = None,
    progress: Progress | None = None,
    executor: Any = None,
) -> WorkflowResult:
    """Run profile, train, optimise, explore, choose, generate, co-simulate and report as one run.

    A step that was finished before, for the same settings and the same inputs, is taken from the store. A run that was
    cut off goes on at the step where it was, and within ``explore`` at the evaluation. Processes may run one workflow
    at once: what the first of them has kept is everybody's.

    Args:
        workflow: a file (docs/workflow.md says what stands in it), or a mapping of the same form.
        store: where results are kept: a Store, its path or URL; the user's own without.
        progress: called as ``progress(done, total, message)``.
        executor: where designs are evaluated, such as ``cluster.executor()``; here without.

    Raises:
        InvalidInputError: the workflow breaks a law: before any work; the message says where in it.
        InfeasibleDesignError: no design keeps all limits; the message says which of them bind.
        SchemaError, StoreError: the store cannot be used; StoreFullError: its disk is full. What was kept stays.
        CodesignError: what a step raises, with the step's name.
    """
    checked = read_workflow(workflow)
    with opened(store) as shelf:
        check_before(checked, {step for step, _, state in _known(checked, shelf) if state != "cached"}, progress)
        results = list(_run(checked, shelf, progress, executor))
        whole = {step.name: step.key for step in results}
        _keep_whole(checked, shelf, whole, results)
    return WorkflowResult(checked.name, tuple(results), store)


def plan_workflow(workflow: str | os.PathLike[str] | Mapping[str, Any], *, store: Place = None) -> WorkflowResult:
    """What :func:`run_workflow` would do, and nothing done: the state of a step is "cached", "runs", or "follows" where
    it depends on what a step before it gives.

    Raises:
        InvalidInputError, SimulatorError: the workflow breaks a law, or names what there is not.
        SchemaError, StoreError: the store cannot be used.
    """
    checked = read_workflow(workflow)
    with opened(store) as shelf:
        known = list(_known(checked, shelf))
        check_named(checked, {step for step, _, state in known if state != "cached"})
        steps = [
            _result(shelf, step, key, "cached", 0.0) if state == "cached" else StepResult(step, key, state)
            for step, key, state in known
        ]
    return WorkflowResult(checked.name, tuple(steps), store)


@contextmanager
def opened(store: Place) -> Iterator[Store]:
    """A Store as it is, or one that is closed afterwards."""
    if isinstance(store, Store):
        yield store
        return
    with Store(store) as shelf:
        yield shelf


def _key(workflow: Workflow, step: str, inputs: Mapping[str, Record]) -> str:
    """The digest of all that decides over the result of ``step``."""
    settings = dict(workflow.steps[step])
    if not workflow.needs(step):
        settings["network"] = workflow.network
    return digest_of(
        {
            "step": step,
            "code": code_of(step),
            "settings": settings,
            "inputs": {name: [record.kind, record.digest] for name, record in inputs.items()},
        }
    )


def _found(shelf: Store, key: str) -> Record | None:
    """The product of the step of that key, if it was finished."""
    if not shelf.has("run", key):
        return None
    kind, digest = shelf.record("run", key).data["product"]
    return shelf.record(kind, digest) if shelf.has(kind, digest) else None


def _known(workflow: Workflow, shelf: Store) -> Iterator[tuple[str, str, str]]:
    """(step, its key or nothing, its state), as far as can be told without running anything."""
    products: dict[str, Record] = {}
    for step in workflow.steps:
        needs = workflow.needs(step)
        if not set(needs) <= set(products):
            yield step, "", "follows"
            continue
        key = _key(workflow, step, {name: products[name] for name in needs})
        product = _found(shelf, key)
        if product is not None:
            products[step] = product
        yield step, key, "runs" if product is None else "cached"


def _run(workflow: Workflow, shelf: Store, progress: Progress | None, executor: Any) -> Iterator[StepResult]:
    products: dict[str, Record] = {}
    for step in workflow.steps:
        started = time.perf_counter()
        inputs = {name: products[name] for name in workflow.needs(step)}
        key = _key(workflow, step, inputs)
        product = _found(shelf, key)
        state, evaluated = "cached", 0
        if product is None:
            state = "ran"
            told = _told(step, progress)
            settings = workflow.steps[step]
            job = Job(shelf, inputs, workflow, settings, f"workflow explore {key}", told, executor)
            try:
                told(0, 0, "")
                made = FUNCTIONS[step](job)
                told(0, 0, "keeping")
                product = _keep(shelf, step, key, job, made, time.perf_counter() - started)
            except CodesignError as error:
                raise _within(error, workflow, step) from error
            evaluated = made.evaluated
        products[step] = product
        yield _result(shelf, step, key, state, time.perf_counter() - started, evaluated)


def _told(step: str, progress: Progress | None) -> Progress:
    def tell(done: int, total: int, message: str) -> None:
        if progress is not None:
            progress(done, total, f"{step}: {message}" if message else step)

    return tell


def _within(error: CodesignError, workflow: Workflow, step: str) -> CodesignError:
    """The same error, which says in which step it came."""
    return type(error)(f"{workflow.source}: {step}: {error} (what the steps before it gave is kept)")


def _keep(shelf: Store, step: str, key: str, job: Job, made: Product, wall_s: float) -> Record:
    """Keep what a step made, and then that it made it; what another process has kept meanwhile goes first."""
    inputs = [(record.kind, record.digest) for record in job.records.values()]
    seed = job.settings.get("seed")
    digest = shelf.keep(
        made.kind, made.data, name=f"{job.workflow.name} {step}", files=made.files, links=inputs, seed=seed,
        wall_s=wall_s,
    )  # fmt: skip
    data = {"step": step, "settings": dict(job.settings), "product": [made.kind, digest]}
    try:
        shelf.keep(
            "run", data, name=f"{job.workflow.name} {step}", links=[*inputs, (made.kind, digest)], digest=key,
            seed=seed, wall_s=wall_s,
        )  # fmt: skip
    except InvalidInputError:
        # another process was first, with another result: training is repeatable on one machine only
        if not shelf.has("run", key):
            raise
    found = _found(shelf, key)
    assert found is not None
    return found


def _keep_whole(workflow: Workflow, shelf: Store, keys: Mapping[str, str], results: list[StepResult]) -> None:
    """Keep which steps make the run; nothing is written where that is known."""
    data = {"workflow": workflow.name, "network": workflow.network, "steps": dict(keys)}
    digest = digest_of(data)
    if not shelf.has("run", digest):
        links = [("run", key) for key in keys.values()]
        seconds = sum(step.seconds for step in results)
        shelf.keep("run", data, name=workflow.name, links=links, digest=digest, seed=workflow.seed, wall_s=seconds)


def _result(
    shelf: Store, step: str, key: str, state: str, seconds: float, evaluated: int = 0
) -> StepResult:  # fmt: skip
    product = _found(shelf, key)
    assert product is not None
    took = shelf.record("run", key).provenance.wall_s or 0.0
    return StepResult(step, key, state, seconds, took, product.data["told"], product, evaluated)
