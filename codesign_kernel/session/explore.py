"""``explore``: the cost model, a cluster's executor and a store's recorder handed to the room that explores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from codesign_kernel import __version__
from codesign_kernel.cost.spatial import check_objective
from codesign_kernel.cost.table import result_columns, spatial_columns
from codesign_kernel.design import DesignSpace, SpatialSpace
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.explore import Exploration, Recorder
from codesign_kernel.explore import explore as explore_space
from codesign_kernel.explore.front import Evaluate
from codesign_kernel.explore.search import space_digest
from codesign_kernel.explore.sweep import GRID
from codesign_kernel.pareto import Objectives
from codesign_kernel.session.scoped import scoped
from codesign_kernel.workload import Workload

Progress = Callable[[int, int, str], None]
#: Spatial arrays that are mapped together: their tables of mappings serve all that differ only in their buffers.
SPATIAL_CHUNK = 1 << 20
#: The largest space of spatial arrays that "auto" sweeps: a design takes many times longer than one of a DesignSpace.
SPATIAL_SWEPT = 4_000_000


@scoped("explore")
def explore(
    workload: Any,
    space: DesignSpace,
    *,
    sampler: str = "auto",
    objectives: Objectives = ("latency_ms", "energy_uj", "area_mm2"),
    constraints: Mapping[str, Any] | None = None,
    budget: int | None = None,
    seed: int = 0,
    population: int | None = None,
    executor: Any = None,
    store: Any = None,
    name: str | None = None,
    warm_start: Any = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    patience: int | None = None,
    fusion: bool = True,
    objective: str = "latency",
) -> Exploration:
    """The best compromises among the designs of ``space`` that run ``workload``.

    The exact front where the space allows (10^8 designs are swept in bounded memory), else a sampled search.

    Args:
        workload: a :class:`Workload`, or anything with one in ``.workload``.
        space: the designs; those of a :class:`SpatialSpace` run every layer with its best mapping.
        objectives, constraints: columns of :func:`codesign_kernel.sweep`; see
            :func:`codesign_kernel.explore.explore` for these and for ``sampler``, ``budget``, ``seed``,
            ``population``, ``warm_start``, ``progress``, ``stop`` and ``patience``.
        executor: an executor, such as ``cluster.executor()``; here without.
        store: a Store, a Study of one, or a recorder: what is known already is not evaluated again, and an exploration
            that was cut off goes on.
        name: of the study in the store; made of the workload, the space and the release without.
        fusion, objective: of a SpatialSpace, as for :func:`codesign_kernel.evaluate`.

    Raises:
        InvalidInputError: an argument is of another kind, the workload does no MACs, or the study of that name is of
            another space, workload, objectives or release.
        InfeasibleDesignError: no design keeps all limits; the message says which of them bind.
        EvaluationError, MissingPackageError: see :func:`codesign_kernel.explore.explore`.
    """
    work = getattr(workload, "workload", workload)
    if not isinstance(work, Workload):
        raise InvalidInputError(
            f"explore takes a Workload, a Profile or an IntegerNetwork, but got {type(workload).__name__}"
        )
    if not isinstance(space, DesignSpace):
        raise InvalidInputError(f"explore takes a DesignSpace, but got {type(space).__name__}")
    common: dict[str, Any] = {
        "objectives": objectives,
        "constraints": constraints,
        "sampler": sampler,
        "budget": budget,
        "seed": seed,
        "population": population,
        "executor": executor,
        "recorder": _recorder(store, name, work, space, objectives, {"fusion": fusion, "objective": objective}),
        "warm_start": warm_start,
        "progress": progress,
        "stop": stop,
        "patience": patience,
    }
    evaluate, chunk = evaluator(work, space, fusion=fusion, objective=objective)
    if isinstance(space, SpatialSpace):
        common["swept"] = SPATIAL_SWEPT
    return explore_space(space, evaluate, chunk=chunk, **common)


def evaluator(
    work: Workload, space: DesignSpace, *, fusion: bool = True, objective: str = "latency"
) -> tuple[Evaluate, int]:
    """What evaluates designs of ``space`` for ``work``, by columns, and how many are swept together.

    Raises:
        InvalidInputError: ``objective`` is none of the space's family.
    """
    if isinstance(space, SpatialSpace):
        check_objective(objective)
        return partial(spatial_columns, work, fusion=fusion, objective=objective), SPATIAL_CHUNK
    if objective != "latency":
        raise InvalidInputError(
            "the generated accelerator has one mapping, but objective= asks to choose one; explore a SpatialSpace"
        )
    return partial(result_columns, work), GRID


def _recorder(
    store: Any,
    name: str | None,
    work: Workload,
    space: DesignSpace,
    objectives: Objectives,
    settings: Mapping[str, Any],
) -> Recorder | None:
    """The recorder of ``store``, which may be one itself, or a study."""
    if store is None:
        return None
    about = {"workload": work.digest, "release": __version__, **settings}
    if hasattr(store, "study"):
        digest = space_digest(space)
        told = [work.name[:80], work.digest[:12], digest[:12], __version__, *map(str, settings.values())]
        told += [f"{way} {column}" for column, way in _directions(objectives).items()]
        store = store.study(name or "-".join(told)[:200], digest, _directions(objectives), data=about)
    if hasattr(store, "recorder"):
        _check_about(store, about)
        store = store.recorder()
    missing = [part for part in ("done", "add", "state", "keep") if not hasattr(store, part)]
    if missing:
        raise InvalidInputError(f"store is a Store, a Study or a recorder, but {type(store).__name__} has no {missing}")
    recorder: Recorder = store
    return recorder


def _check_about(study: Any, about: Mapping[str, Any]) -> None:
    """Results of one study are comparable: refuse one that says it is about something else than ``about``."""
    began = study.data if isinstance(study.data, Mapping) else {}
    other = [key for key in about if key in began and began[key] != about[key]]
    if other:
        raise InvalidInputError(
            f"the results of a study are of one {other[0]}, but {study.name!r} began with {began[other[0]]!s:.20} and "
            f"this is {about[other[0]]!s:.20}; give the study another name"
        )


def _directions(objectives: Objectives) -> dict[str, str]:
    return dict(objectives) if isinstance(objectives, Mapping) else dict.fromkeys(objectives, "min")
