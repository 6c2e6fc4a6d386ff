"""``codesign fuse``: what reading a network makes of its operators."""

from __future__ import annotations

import argparse

from codesign_kernel.cli.output import Answer, rows_text, table_text
from codesign_kernel.cli.parser import TRAINED_TASKS
from codesign_kernel.units import quantity


def fuse_answer(args: argparse.Namespace) -> Answer:
    """Operator by operator what became of it, and the traffic of maps before and after."""
    from codesign_kernel.optimize.networks import NETWORKS
    from codesign_kernel.session.scoped import fusion_report

    network = TRAINED_TASKS.get(args.network, args.network)
    report = fusion_report(*NETWORKS[network].untrained(), bits=args.bits)
    rows = [
        [one.name, one.kind, report.became(one), *(f"{n:,}" for n in (one.reads, one.writes, one.saved))]
        for one in report.operators
    ]
    totals = [
        ("network", f"{network}: {len(report.operators)} operators become {report.layers_after} layers"),
        (
            "before",
            f"{report.traffic_before:,} elements, {quantity(report.bytes(report.traffic_before), 'B')} an image",
        ),
        ("after", f"{report.traffic_after:,} elements, {quantity(report.bytes(report.traffic_after), 'B')} an image"),
        ("folded", f"{report.parameters_folded:,} parameters of batch normalisations"),
    ]
    header = ["operator", "kind", "became", "elements read", "written", "saved"]
    return Answer(f"{table_text(header, rows, left=3)}\n\n{rows_text(totals)}", report.to_dict())
