"""``co_optimize``: one search over a network and the machine that it runs on.

A network is costly: it is pruned, tuned, quantised and measured. Its machines are not: every design of the space is
evaluated for every network, so that a network brings the whole front of its machines. The sampler therefore chooses
networks alone, by two objectives: the accuracy, and the volume that the front of its machines dominates. The area below
the front of these two is the joint hypervolume where the fronts of the machines are nested, and never more than it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, cast

import numpy as np

from codesign_kernel.design import DesignSpace
from codesign_kernel.errors import InvalidInputError, MissingPackageError
from codesign_kernel.explore import Executor, Provenance, Recorder, Serial
from codesign_kernel.explore.goal import Goal
from codesign_kernel.explore.result import versions_of
from codesign_kernel.explore.samplers import Sampler, make_sampler
from codesign_kernel.explore.search import space_digest
from codesign_kernel.optimize import Dataset, IntegerNetwork, quantize
from codesign_kernel.optimize.channels import check_model
from codesign_kernel.session.candidates import NetworkSpace, Training, digest_of_arrays
from codesign_kernel.session.code import digest_of_code
from codesign_kernel.session.goals import OBJECTIVES, goal_of
from codesign_kernel.session.joint_search import JointSearch, Progress
from codesign_kernel.session.machines import Machines
from codesign_kernel.session.pairs import ACCURACY, CoOptimization
from codesign_kernel.session.scoped import scoped

#: Networks that a search evaluates where the user does not say.
BUDGET = 64
#: Samplers that learn between generations, which are small therefore.
LEARNING = frozenset({"tpe", "gp"})
#: What takes part.
PACKAGES = ("codesign-playground", "numpy", "torch", "optuna")
#: Rooms whose code decides what a network is, and what a machine costs: results of other code are not taken up again.
NETWORK_CODE = ("workload", "accelerator", "optimize", "session/candidates")
MACHINE_CODE = (
    "workload", "accelerator", "mapping", "numerics", "cost", "design", "pareto", "explore", "session/machines",
)  # fmt: skip


@scoped("co_optimize")
def co_optimize(
    model: Any,
    space: DesignSpace,
    data: Dataset,
    constraints: Mapping[str, Any] | None = None,
    *,
    networks: NetworkSpace | None = None,
    objectives: Sequence[str] = OBJECTIVES,
    sampler: str = "auto",
    budget: int = BUDGET,
    seed: int = 0,
    population: int | None = None,
    prune_recipe: Any = None,
    tune_recipe: Any = None,
    executor: Executor | None = None,
    store: Any = None,
    name: str | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> CoOptimization:
    """Pairs of a network and an accelerator: the front of measured accuracy against what the accelerator costs.

    Networks are the model with fewer channels and narrower weights, trained on ``data.train_x`` and quantised with
    ``data.calibration_x``. Everything is chosen by their accuracy on the validation part, as the integer golden model
    computes it; the test part is looked at once, for the networks of the finished front.

    Args:
        model: a trained torch module that :func:`codesign_kernel.quantize` takes: [N, C, H, W] to a score for each
            label of ``data``. It stays as it is.
        space: the accelerators. Their ``weight_bits`` are the widths of activations that networks may have.
        constraints: the most a column may be (the least for ``accuracy`` and ``utilization``), or pairs (least, most):
            columns of :func:`codesign_kernel.sweep`; ``power_w``, the energy of an inference over its latency: the
            average power (W) while inferences follow one another without a pause; ``accuracy``, 0 to 1, on the
            validation part.
        networks: what may be chosen of the network; :meth:`NetworkSpace.of` without.
        objectives: columns of machines to minimise, beside the accuracy to maximise.
        sampler: of networks: "tpe", "nsga2", "nsga3", "gp" or "random"; "auto" is tpe, which finds most with few
            networks, where Optuna is installed, else random. Where there are no more networks than ``budget``, each is
            evaluated.
        budget: distinct networks to evaluate.
        seed: of the sampler and of all training.
        population: networks of a generation; a sixth of the budget without, 4 to 6 of tpe and gp, which learn between
            generations, 4 to 24 of others.
        prune_recipe, tune_recipe: ``optimize.Recipe`` of the training after pruning, and of the quantisation-aware
            training, which lasts as many epochs as the network's own choice says.
        executor: where networks and their machines are evaluated, such as ``cluster.executor()``; here without.
        store: a Store, a Study of one, or a recorder: each network is kept as it is finished, and a search that was cut
            off goes on and ends with the same front.
        name: of the study in the store; made of the model, the data and the settings without.
        progress: called as ``progress(done, budget, message)`` after each network.
        stop: asked after each network; what is true ends the search with the front so far.

    Raises:
        InvalidInputError: an argument breaks a law, or the model does not fit the data.
        UnsupportedLayerError: the model holds a layer that the accelerator cannot run.
        InfeasibleDesignError: no pair keeps all limits; the message says which bind, and the best reachable of each.
        MissingPackageError: the sampler's package, or that for pruning, is not installed.
    """
    from codesign_kernel.optimize import Recipe

    started = time.perf_counter()
    goal, machines = goal_of(space, objectives, constraints)
    whole = _checked(model, data, machines)
    networks = _networks(model, data, whole, machines, networks)
    recipes = (prune_recipe or Recipe(3, 4e-3), tune_recipe or Recipe(1, 1e-3))
    if not all(isinstance(recipe, Recipe) for recipe in recipes):
        raise InvalidInputError(f"prune_recipe and tune_recipe are Recipes, but got {recipes!r}")
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer) or budget < 1:
        raise InvalidInputError(f"a budget is a whole number of networks, at least 1, but got {budget!r}")
    budget = min(int(budget), networks.size)
    chosen = "exact" if budget == networks.size else sampler
    if chosen == "auto":
        chosen = "tpe" if find_spec("optuna") is not None else "random"
    proposer = _proposer(chosen, networks, budget, seed, population)
    digests = _digests(model, data, whole, recipes, seed)
    search = JointSearch(
        Training(model, data, *recipes, seed), machines, networks, goal, 1 / len(data.labels),
        _recorder(store, name, digests, networks, seed), executor or Serial(),
        {"network": _key(digests), "machines": _key(machine_digests(space, machines.goal))},
    )  # fmt: skip
    stopped = search.run(proposer, budget, progress, stop)
    told = Provenance(
        chosen, seed, budget, space_digest(space), search.trained, time.perf_counter() - started, versions_of(PACKAGES)
    )
    return search.result(space, data, stopped, told, digests)


def _checked(model: Any, data: Any, machines: Machines) -> IntegerNetwork:
    """The whole model as a network, which fits the data; refused before any work where it does not."""
    if not isinstance(data, Dataset):
        raise InvalidInputError(
            f"data is a Dataset, labelled inputs of a classification task in four parts, but got {type(data).__name__}"
        )
    check_model(model)  # quantize takes exported programs too, which are not trained
    whole = quantize(model, data.calibration_x, bits=max(machines.bits))
    scores = whole.predict(data.validation_x[:1])
    if scores.shape != (1, len(data.labels)):
        raise InvalidInputError(
            f"a classifier has one score for each of the {len(data.labels)} labels of {data.name}, but the model gives "
            f"{list(scores.shape[1:])} an input; change its last layer, or take other data"
        )
    return whole


def _networks(
    model: Any, data: Dataset, whole: IntegerNetwork, machines: Machines, networks: NetworkSpace | None
) -> NetworkSpace:
    if networks is None:
        networks = NetworkSpace.of(model, data, whole, bits=machines.bits)
    if not isinstance(networks, NetworkSpace):
        raise InvalidInputError(f"networks is a NetworkSpace, but got {type(networks).__name__}")
    foreign = sorted(set(networks.choices["bits"]) - set(machines.bits))
    if foreign:
        raise InvalidInputError(
            f"a network runs on machines of its own width, but networks may have {foreign} bits and machines have "
            f"weight_bits = {list(machines.bits)}; give the space these too"
        )
    networks.check(model, data, whole)
    if any(networks.choices["epochs"]) and find_spec("torchao") is None:
        raise MissingPackageError(
            "networks with epochs of quantisation-aware training need torchao, which is not installed; pip install "
            "'codesign-playground[optimize]', or give networks with epochs=(0,)"
        )
    return networks


def _proposer(sampler: str, networks: NetworkSpace, budget: int, seed: int, population: int | None) -> Sampler | None:
    """What proposes networks; None where each of them is evaluated."""
    if population is None:
        population = max(4, min(6 if sampler in LEARNING else 24, budget // 6))
    # two objectives; two limits: the accuracy, and those of the machine
    choices = cast(DesignSpace, networks)  # samplers read the choices of a space alone
    checked = make_sampler(
        "random" if sampler == "exact" else sampler, choices, 2, 3, seed, networks.first(), population
    )
    return None if sampler == "exact" else checked


def _digests(model: Any, data: Dataset, whole: IntegerNetwork, recipes: tuple[Any, ...], seed: int) -> dict[str, str]:
    """What decides what a candidate becomes, by name."""
    state = {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}
    # what training sees of a model and its integers do not show: dropout, frozen layers
    form = re.sub("0x[0-9a-f]+", "", repr(model))
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    parts = ("train", "calibration", "validation")
    arrays = {f"{part}_{kind}": getattr(data, f"{part}_{kind}") for part in parts for kind in "xy"}
    return {
        "model": digest_of_arrays(state),
        "graph": whole.digest,
        "form": _key([form, learning]),
        "data": digest_of_arrays(arrays),
        "settings": _key([list(map(repr, recipes)), seed]),
        "code": digest_of_code(NETWORK_CODE),
        "versions": _key(versions_of(("numpy", "torch", "torch-pruning", "torchao"))),
    }


def machine_digests(space: DesignSpace, goal: Goal) -> dict[str, str]:
    """What decides what the machines of a network cost, by name."""
    told = _key([list(goal.objectives.items()), list(goal.limits.items())])
    return {"space": space_digest(space), "goal": told, "code": digest_of_code(MACHINE_CODE)}


def _key(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _recorder(
    store: Any, name: str | None, digests: Mapping[str, str], networks: NetworkSpace, seed: int
) -> Recorder | None:
    """The recorder of ``store``, which may be one itself, or a study."""
    if store is None:
        return None
    if hasattr(store, "study"):
        made = _key(digests)
        name = name or f"co_optimize-{made[:12]}-{networks.digest[:12]}"
        store = store.study(name, networks.digest, {ACCURACY: "max"}, data={"networks": made}, seed=seed)
        if store.data != {"networks": made}:
            raise InvalidInputError(
                f"a study holds the networks of one model, task, recipe, seed and release, but {name!r} is of another; "
                "choose another name"
            )
    if hasattr(store, "recorder"):
        store = store.recorder()
    missing = [part for part in ("done", "add", "state", "keep") if not hasattr(store, part)]
    if missing:
        raise InvalidInputError(f"store is a Store, a Study or a recorder, but {type(store).__name__} has no {missing}")
    recorder: Recorder = store
    return recorder
