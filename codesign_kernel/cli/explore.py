"""``codesign explore``: the front of a network's designs, and the one to take."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from codesign_kernel.cli.output import Answer, rows_text, table_text
from codesign_kernel.cli.progress import Progress
from codesign_kernel.files import write_whole
from codesign_kernel.units import quantity, three_digits

if TYPE_CHECKING:
    from codesign_kernel.profiler import Profile

#: Rows of the front printed for people; ``--json`` and ``--out`` have all of them.
FRONT_ROWS = 12


def explore_answer(profile: Profile, args: argparse.Namespace, progress: Progress) -> Answer:
    """Explore the space that suits ``profile`` as ``args`` of the parser say."""
    from codesign_kernel.design import DesignSpace, SpatialSpace
    from codesign_kernel.session.explore import explore

    kind = SpatialSpace if args.spatial else DesignSpace
    found = explore(
        profile.workload, kind.suited_to(profile.workload), sampler=args.sampler, objectives=args.objectives,
        constraints=limits_by_column(args.limit), budget=args.budget, seed=args.seed, progress=progress,
    )  # fmt: skip
    advice = found.recommend(best=args.best)
    front = found.front.drop_duplicates([*found.objectives])  # equal ones once
    if args.out is not None:
        write_whole(args.out, found.front.to_csv())
    chosen = [name for name, values in found.space.choices.items() if len(values) > 1]
    columns = [*chosen, *found.objectives]
    shown = [
        ["chosen" if number == advice.chosen.name else "", str(number), *(_cell(row[name]) for name in columns)]
        for number, row in front.head(FRONT_ROWS).iterrows()
    ]
    told = found.provenance
    totals: list[tuple[str, object]] = [
        ("network", args.network),
        ("designs", f"{found.tally.designs:,} of {found.space.size:,} looked at by {told.sampler} in "
                    f"{quantity(told.wall_s, 's')}, {found.tally.legal:,} can run and keep the limits"),
        ("ended", found.stopped),
        ("front", f"{len(front):,} designs for {', '.join(found.objectives)}, hypervolume {found.hypervolume:.1%}"),
    ]  # fmt: skip
    if args.out is not None:
        totals.append(("written", args.out))
    body: dict[str, Any] = {
        "network": args.network,
        "space": found.space.size,
        "designs": found.tally.designs,
        "legal": found.tally.legal,
        "stopped": found.stopped,
        "objectives": found.objectives,
        "constraints": found.goal.limits,
        "reference": found.reference,
        "hypervolume": found.hypervolume,
        "provenance": told.__dict__,
        "front": [{"design": number, **row.to_dict()} for number, row in found.front.iterrows()],
        "recommendation": advice.to_dict(),
        "out": args.out,
    }
    return Answer(f"{table_text(['', 'design', *columns], shown)}\n\n{rows_text(totals)}\n\n{advice}", body)


def limits_by_column(
    given: list[tuple[str, tuple[float | None, float | None]]],
) -> dict[str, tuple[float | None, float | None]]:
    """Limits by column; of several from one side the tightest."""
    limits: dict[str, tuple[float | None, float | None]] = {}
    for name, (least, most) in given:
        low, high = limits.get(name, (None, None))
        least = max((value for value in (low, least) if value is not None), default=None)
        most = min((value for value in (high, most) if value is not None), default=None)
        limits[name] = (least, most)
    return limits


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else three_digits(value) if value % 1 else f"{value:g}"
