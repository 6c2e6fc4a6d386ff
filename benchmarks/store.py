"""Evaluations a second that the store records, beside trials a second in Optuna's SQL storage, on the same database.

SQLite without an argument. `--url postgresql://...` names an empty database of a server; both write into it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pandas as pd

import codesign_kernel as ck
from codesign_kernel.store import digest_of

#: What is written a run, by evaluations a call; Optuna gets fewer, because it would take minutes.
BATCHES = {1: 300, 100: 10_000, 1_000: 50_000, 10_000: 100_000}
TRIALS = 100
PARAMETERS, RESULTS = 6, 6


def evaluations(start: int, count: int) -> pd.DataFrame:
    """Designs with six whole parameters and six results."""
    rng = np.random.default_rng(start)
    columns = {f"parameter_{n}": rng.integers(1, 64, count) for n in range(PARAMETERS)}
    columns |= {f"result_{n}": rng.random(count) for n in range(RESULTS)}
    return pd.DataFrame(columns, index=pd.Index(np.arange(start, start + count), name="design"))


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def own_rates(url: str) -> dict[int, float]:
    """{evaluations a call: evaluations a second}."""
    rates = {}
    with ck.Store(url) as store:
        for batch, total in BATCHES.items():
            recorder = store.study(f"batches of {batch}", digest_of(batch), ["result_0"]).recorder()
            frames = [evaluations(start, batch) for start in range(0, total, batch)]
            rates[batch] = total / timed(lambda recorder=recorder, frames=frames: [recorder.add(f) for f in frames])
            read = timed(recorder.done)
        print(f"read back as a frame: {total / read:,.0f}/s")
    return rates


def optuna_rates(url: str) -> dict[str, float]:
    """{way of writing: trials a second}."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(url)
    sampler = optuna.samplers.RandomSampler(seed=0)
    distributions = {f"parameter_{n}": optuna.distributions.IntDistribution(1, 64) for n in range(PARAMETERS)}
    results = {f"result_{n}": 0.5 for n in range(2, RESULTS)}

    def asked() -> None:
        study = optuna.create_study(directions=["minimize"] * 2, storage=storage, sampler=sampler, study_name="asked")
        for _ in range(TRIALS):
            trial = study.ask(distributions)
            for name, value in results.items():
                trial.set_user_attr(name, value)
            study.tell(trial, [0.5, 0.5])

    def added() -> None:
        study = optuna.create_study(directions=["minimize"] * 2, storage=storage, sampler=sampler, study_name="added")
        study.add_trials(
            optuna.trial.create_trial(
                values=[0.5, 0.5],
                params=dict.fromkeys(distributions, 7),
                distributions=distributions,
                user_attrs=results,
            )
            for _ in range(TRIALS)
        )

    rates = {"ask and tell": TRIALS / timed(asked), "add_trials": TRIALS / timed(added)}
    storage.remove_session()
    return rates


def compare(url: str, optuna_url: str) -> None:
    """Print both, and the ratios."""
    own, theirs = own_rates(url), optuna_rates(optuna_url)
    print(f"{'':<34} {'a second':>10}" + "".join(f" {'x ' + way:>16}" for way in theirs))
    for batch, rate in own.items():
        ratios = "".join(f" {rate / other:>16,.0f}" for other in theirs.values())
        print(f"{f'store, {batch:,} evaluations a call':<34} {rate:>10,.0f}{ratios}")
    for way, rate in theirs.items():
        print(f"{f'Optuna, {way}':<34} {rate:>10,.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an empty PostgreSQL database")
    url = parser.parse_args().url
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, Optuna {optuna.__version__}, "
        f"{os.cpu_count()} cores; {PARAMETERS} parameters and {RESULTS} results a design\n"
    )
    if url:
        compare(url, url.replace("postgresql://", "postgresql+psycopg://"))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(f"sqlite:///{Path(folder) / 'own.db'}", f"sqlite:///{Path(folder) / 'optuna.db'}")


if __name__ == "__main__":
    main()
