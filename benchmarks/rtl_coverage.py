"""Line and toggle coverage of the generated RTL by the verification sample, module by module.

Verilator counts how often each block of lines runs, and for each bit of each signal how often it rises and falls. The
sample is that of ``mutation.py``. What is not covered is listed, line by line.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from mutation import CASES, MACHINES, Case, Troubled, sample

from codesign_kernel.rtl import generate_rtl

_POINT = re.compile(r"^C '(.*)' (\d+)$")


class Covered(Troubled):
    """Adds what each run covers to ``counts``: by (module, kind, line, what)."""

    covered = True

    def __init__(self, counts: Counter[tuple[str, str, int, str]], *arguments: Any) -> None:
        super().__init__(*arguments)
        self.counts = counts

    def finish(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        """Read the counts of this model."""
        library.core_coverage.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "coverage.dat")
            library.core_coverage(handle, str(path).encode())
            self.counts.update(points(path.read_text(encoding="latin-1")))


def points(text: str) -> Counter[tuple[str, str, int, str]]:
    """The points of Verilator's file of coverage: {(module, kind, line, what): count}; instances of a module add up.

    Verilator names a module behind ``__`` for each set of values that its parameters have; they are one here.
    """
    found: Counter[tuple[str, str, int, str]] = Counter()
    for line in text.splitlines():
        match = _POINT.match(line)
        if match is None:
            continue
        field = dict(part.split("\x02", 1) for part in match[1].split("\x01") if "\x02" in part)
        kind, _, module = field["page"].partition("/")
        module = module.partition("__")[0]
        found[module, kind.removeprefix("v_"), int(field["l"]), field.get("o", "")] += int(match[2])
    return found


def of_machine(machine: str, seed: int, cases: int) -> Counter[tuple[str, str, int, str]]:
    """What the sample covers on one accelerator."""
    accelerator = MACHINES[machine]
    bundle, counts = generate_rtl(accelerator), Counter[tuple[str, str, int, str]]()
    found: list[Case] = sample(accelerator, seed, cases)
    for at, case in enumerate(found):
        other = found[(at + 1) % len(found)]
        simulator = Covered(counts, accelerator, other, at)
        if case.differs(simulator.run(bundle, case.job)):
            raise SystemExit(f"{machine}: case {at} fails")
    return counts


def shares(counts: Counter[tuple[str, str, int, str]]) -> dict[str, dict[str, tuple[int, int]]]:
    """{module: {kind: (covered points, points)}}; ``branch`` counts as ``line``."""
    found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for (module, kind, _, _), count in counts.items():
        name = "toggle" if kind == "toggle" else "line"
        hit, every = found[module].get(name, (0, 0))
        found[module][name] = (hit + (count > 0), every + 1)
    return dict(found)


def _share(part: tuple[int, int]) -> str:
    return f"{part[0]}/{part[1]} ({part[0] / part[1]:.1%})" if part[1] else "-"


def main(arguments: list[str] | None = None) -> None:
    """Print the coverage of each module, and what was not covered."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--machines", nargs="+", choices=list(MACHINES), default=list(MACHINES))
    parser.add_argument("--cases", type=int, default=CASES, metavar="N", help=f"networks (default {CASES})")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the networks")
    parser.add_argument("--toggles", action="store_true", help="list the bits that never rise or never fall, too")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the shares by machine and module")
    given = parser.parse_args(arguments)
    body = {}
    for machine in given.machines:
        started = time.perf_counter()
        counts = of_machine(machine, given.seed, given.cases)
        found = shares(counts)
        body[machine] = found
        total = {kind: tuple(map(sum, zip(*(m.get(kind, (0, 0)) for m in found.values()), strict=True)))
                 for kind in ("line", "toggle")}  # fmt: skip
        print(f"{machine}: line {_share(total['line'])}, toggle {_share(total['toggle'])}; "
              f"{time.perf_counter() - started:.0f} s", flush=True)  # fmt: skip
        for module, kinds in sorted(found.items()):
            print(f"  {module}: line {_share(kinds.get('line', (0, 0)))}, toggle {_share(kinds.get('toggle', (0, 0)))}")
        lines = generate_rtl(MACHINES[machine]).verilog.split("\n")
        for (module, kind, line, what), count in sorted(counts.items()):
            if not count and (kind != "toggle" or given.toggles):
                print(f"  not covered: {module} line {line}, {kind} {what}: {lines[line - 1].strip()}")
    if given.out is not None:
        given.out.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
