"""Optuna's samplers behind our contract: a generation asked and told as a whole, the study in a journal.

The random numbers of a batch come from (seed, batch) alone and everything else that a sampler knows stands in the
study, so a study read back from its journal goes on exactly as if it had never been closed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.errors import MissingPackageError
from codesign_kernel.explore.samplers import Settings

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend
except ImportError as error:
    raise MissingPackageError(
        "the samplers nsga2, nsga3, tpe and gp are Optuna's, which is not installed; "
        "pip install 'codesign-playground[search]'"
    ) from error

Array = NDArray[Any]
#: Designs asked at once where the user does not say. TPE and GP learn between batches, so theirs are small.
BATCH = {"nsga2": 50, "nsga3": 50, "tpe": 20, "gp": 5}


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna without its log lines and its notes that a class is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


class _Journal(BaseJournalBackend):  # type: ignore[misc, unused-ignore]
    """A journal in memory; ``new`` is what was appended since it was last taken."""

    def __init__(self) -> None:
        self._logs: list[dict[str, Any]] = []
        self._taken = 0

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += logs

    def take(self) -> bytes:
        new, self._taken = self._logs[self._taken :], len(self._logs)
        return json.dumps(new).encode()

    def put(self, written: bytes) -> None:
        self._logs += json.loads(written)
        self._taken = len(self._logs)


class OptunaSampler:
    """``kind`` of Optuna's samplers: "nsga2", "nsga3", "tpe" or "gp"."""

    def __init__(self, kind: str, settings: Settings) -> None:
        self.batch = settings.population or BATCH[kind]
        self._kind, self._settings, self._batches = kind, settings, 0
        genome = settings.genome
        self._space: dict[str, BaseDistribution] = {
            name: IntDistribution(0, n - 1) if ordered else CategoricalDistribution([*range(n)])
            for name, n, ordered in zip(genome.names, genome.lengths, genome.ordered, strict=True)
        }
        self._journal = _Journal()
        self._study: Any = None
        self._worst = np.full(settings.objectives, -np.inf)
        self._trials: list[Any] = []

    def _sampler(self) -> Any:
        """A sampler whose random numbers are those of the batch that comes next."""
        seed = int(np.random.SeedSequence([self._settings.seed, self._batches]).generate_state(1)[0])
        make: dict[str, Callable[[], Any]] = {
            "nsga2": lambda: optuna.samplers.NSGAIISampler(population_size=self.batch, seed=seed),
            "nsga3": lambda: optuna.samplers.NSGAIIISampler(population_size=self.batch, seed=seed),
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, n_startup_trials=2 * self.batch),
            "gp": lambda: optuna.samplers.GPSampler(seed=seed, n_startup_trials=2 * self.batch),
        }
        return make[self._kind]()

    def _open(self) -> None:
        """Create the study, or read it from the journal."""
        storage = JournalStorage(self._journal)
        known = storage.get_all_studies()
        if known:
            self._study = optuna.load_study(study_name=known[0].study_name, storage=storage)
            return
        directions = [optuna.study.StudyDirection.MINIMIZE] * self._settings.objectives
        self._study = optuna.create_study(storage=storage, study_name="exploration", directions=directions)
        for genes in self._settings.genome.genes(self._settings.first).tolist():
            self._study.enqueue_trial(dict(zip(self._space, genes, strict=True)))

    def ask(self, count: int) -> Array:
        with _quiet():
            if self._study is None:
                self._open()
            self._study.sampler = self._sampler()
            self._trials = [self._study.ask(self._space) for _ in range(count)]
        genes = [[trial.params[name] for name in self._space] for trial in self._trials]
        return self._settings.genome.numbers(np.array(genes, dtype=np.int64).reshape(len(genes), len(self._space)))

    def tell(self, numbers: Array, costs: Array, broken: Array) -> None:
        """A design that cannot run has no costs: the sampler is told the worst that it has seen, beside the limits that
        are broken, because Optuna takes numbers only."""
        self._see(costs)
        instead = np.where(np.isfinite(self._worst), self._worst, 0.0)
        values = np.where(np.isnan(costs), instead, costs)
        with _quiet():
            for trial, row, limits in zip(self._trials, values.tolist(), broken.tolist(), strict=True):
                for place, over in enumerate(limits):
                    trial.set_constraint(str(place), over)
                self._study.tell(trial, row)
        self._batches += 1

    def _see(self, costs: Array) -> None:
        known = costs[~np.isnan(costs).any(axis=1)]
        if len(known):
            self._worst = np.maximum(self._worst, known.max(axis=0))

    def journal(self) -> bytes:
        return json.dumps({"worst": self._worst.tolist()}).encode() + b"\n" + self._journal.take()

    def replay(self, journal: bytes) -> None:
        head, _, logs = journal.partition(b"\n")
        self._worst = np.array(json.loads(head)["worst"])
        self._journal.put(logs)
        self._batches += 1
