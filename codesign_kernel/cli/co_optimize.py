"""``codesign co-optimize``: pairs of a network and an accelerator, from one search."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import Any

from codesign_kernel.cli.explore import limits_by_column
from codesign_kernel.cli.output import Answer, rows_text, table_text
from codesign_kernel.cli.parser import TRAINED_TASKS
from codesign_kernel.cli.progress import Progress
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.files import check_file, write_whole
from codesign_kernel.units import column_text, quantity

#: Rows of the front printed for people; ``--json`` and ``--out`` have all of them.
FRONT_ROWS = 12
#: Columns of the machine in that table.
MACHINE = ("rows", "cols", "weight_bits", "min_weight_bits", "activation_kib", "weight_kib")


def co_optimize_answer(args: argparse.Namespace, progress: Progress) -> Answer:
    """Train the network of a task, and search pairs as ``args`` of the parser say."""
    for path in (args.out, args.figure):
        if path is not None:
            check_file(path)
    from codesign_kernel.optimize import NETWORKS, Recipe, quantize, train_digits, train_keywords
    from codesign_kernel.session.candidates import NetworkSpace
    from codesign_kernel.session.co_optimize import OBJECTIVES, co_optimize, goal_of
    from codesign_kernel.session.machines import small_machines

    name = args.network or TRAINED_TASKS[args.task]
    if NETWORKS[name].data != args.task:
        raise InvalidInputError(
            f"the network {name!r} is for {NETWORKS[name].data}, but the task is {args.task}; name one of both"
        )
    space, limits = small_machines(), limits_by_column(args.limit)
    goal_of(space, OBJECTIVES, limits)  # what contradicts itself is told before the training
    train = train_keywords if args.task == "keywords" else train_digits
    with _store(args.store) as store:  # which is opened first: one that cannot be used costs no training
        model, data, right = train(seed=args.seed, epochs=args.epochs, progress=progress, network=name)
        whole = quantize(model, data.calibration_x)
        networks = NetworkSpace.of(model, data, whole, bits=space.choices["weight_bits"], epochs=(args.tuning,))
        found = co_optimize(
            model, space, data, limits, networks=networks, sampler=args.sampler,
            budget=args.budget, seed=args.seed, prune_recipe=Recipe(max(1, args.tuning), 4e-3), store=store,
            progress=progress,
        )  # fmt: skip
    advice = found.recommend(best=args.best)
    if args.out is not None:
        write_whole(args.out, found.front.to_csv())
    if args.figure is not None:
        from codesign_kernel.figures import plot_pairs

        write_whole(args.figure, plot_pairs(found.front, knee=found.knee).to_html(include_plotlyjs=True))
    told = found.provenance
    totals: list[tuple[str, object]] = [
        ("task", f"{data.name}, {name}: {right:.1%} of the test inputs right before quantising"),
        ("networks", f"{len(found.frame):,} of {found.networks.size:,} by {told.sampler} in "
                     f"{quantity(told.wall_s, 's')}, {told.evaluated:,} trained now"),
        ("designs", f"each of {space.size:,} for each network"),
        ("ended", found.stopped),
        ("front", f"{len(found.front):,} pairs of {found.front['network'].nunique()} networks"),
        *((f"written {kind}", path) for kind, path in (("pairs", args.out), ("figure", args.figure)) if path),
    ]  # fmt: skip
    body = {
        "task": data.name,
        "network": name,
        "float_test_accuracy": right,
        "networks": found.networks.size,
        "evaluated": len(found.frame),
        "designs": space.size,
        "stopped": found.stopped,
        "objectives": found.objectives,
        "constraints": found.goal.limits,
        "reference": dict(found.reference),
        "hypervolume": found.hypervolume,
        "provenance": told.__dict__,
        "digests": dict(found.digests),
        "front": [{"pair": number, **row.to_dict()} for number, row in found.front.iterrows()],
        "recommendation": {"pair": advice.number, "words": str(advice).splitlines()},
        "out": args.out,
        "figure": args.figure,
    }
    table = table_text(["", "pair", "network", *found.objectives, "test", *MACHINE], _shown(found, advice.number))
    return Answer(f"{table}\n\n{rows_text(totals)}\n\n{advice}", body)


def _shown(found: Any, chosen: int) -> list[list[str]]:
    """Rows of the front for people: the chosen pair, and others evenly along the front."""
    count = len(found.front)
    numbers = sorted({chosen, *(round(i * (count - 1) / max(1, FRONT_ROWS - 1)) for i in range(FRONT_ROWS))})
    rows = []
    for number in numbers:
        row = found.front.iloc[number]
        cells = [_cell(name, row[name]) for name in found.objectives]
        machine = [f"{row[name]:g}" for name in MACHINE]
        mark = "chosen" if number == chosen else ""
        rows.append([mark, str(number), str(row["network"]), *cells, f"{row['test_accuracy']:.1%}", *machine])
    return rows


def _cell(name: str, value: float) -> str:
    return f"{value:.1%}" if name == "accuracy" else column_text(name, value)


def _store(path: Any) -> Any:
    """A context with the store at ``path``, or with none."""
    if path is None:
        return nullcontext(None)
    from codesign_kernel.store import Store

    return Store(path)
