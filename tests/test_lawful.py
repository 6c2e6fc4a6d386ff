"""The conversion checker: every trap is real, is named with its line, and its lawful neighbour passes and converts."""

from __future__ import annotations

import gc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tworoads
from cases import MACHINES
from myhdl import ConversionError as MyhdlError
from myhdl import Signal, always_comb
from traps import PAGE, TRAPS, page

from codesign_kernel.errors import ConversionError
from codesign_kernel.rtl.core import Ports
from codesign_kernel.rtl.core_os import core_of
from codesign_kernel.rtl.hierarchy import block
from codesign_kernel.rtl.lawful import check_block, findings

#: What MyHDL raises for what it does not convert, on purpose or not.
REFUSALS = (MyhdlError, AttributeError, KeyError, AssertionError, TypeError, ValueError)
SOURCE = Path(__file__).with_name("traps.py")


def lines_of(name: str) -> list[int]:
    """The lines of traps.py that are marked in this trap."""
    lines = SOURCE.read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line == f"def {name}():")
    last = next((n for n in range(first + 1, len(lines)) if lines[n].startswith(("@", "def ", "class "))), len(lines))
    return [n + 1 for n in range(first, last) if lines[n].endswith("# trap")]


def road(make: tworoads.Make, language: str, folder: Path) -> str:
    """What becomes of a block in one language."""
    refused = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # MyHDL leaves the file open that it has begun
        try:
            tworoads.convert(make, language, folder)
        except REFUSALS:
            refused = True
        if refused:
            gc.collect()
            return "refused"
    tried = tworoads.vectors(make()[1])
    try:
        reference = tworoads.in_myhdl(make, tried)
        found = (tworoads.in_verilog if language == "Verilog" else tworoads.in_vhdl)(make, tried, folder)
    except tworoads.Rejected:
        return "rejected"
    return "agrees" if found == reference else "differs"


def maker(function, ports) -> tworoads.Make:
    return lambda: (function, {name: kind() for name, kind in ports.items()})


@pytest.mark.parametrize("name", TRAPS)
class TestTraps:
    def test_the_checker_names_the_line(self, name):
        trap = TRAPS[name]
        told = findings(trap.wrong(**{port: kind() for port, kind in trap.ports.items()}))
        assert sorted({finding.line for finding in told}) == lines_of(name)
        assert {Path(finding.file).name for finding in told} == {"traps.py"}

    def test_the_neighbour_passes(self, name):
        trap = TRAPS[name]
        check_block(trap.right(**{port: kind() for port, kind in trap.right_ports.items()}))

    @pytest.mark.slow
    @pytest.mark.icarus
    def test_verilog_is_as_told(self, name, tmp_path):
        trap = TRAPS[name]
        assert road(maker(trap.wrong, trap.ports), "Verilog", tmp_path) == trap.verilog
        assert road(maker(trap.right, trap.right_ports), "Verilog", tmp_path) == "agrees"

    @pytest.mark.slow
    @pytest.mark.ghdl
    def test_vhdl_is_as_told(self, name, tmp_path):
        trap = TRAPS[name]
        assert road(maker(trap.wrong, trap.ports), "VHDL", tmp_path) == trap.vhdl
        for path in tmp_path.iterdir():
            path.unlink()
        assert road(maker(trap.right, trap.right_ports), "VHDL", tmp_path) == "agrees"


def test_every_trap_does_harm():
    assert [name for name, trap in TRAPS.items() if {trap.verilog, trap.vhdl} == {"agrees"}] == []


@pytest.mark.slow
def test_the_page_shows_them_all():
    assert PAGE.read_text() == page(), "python tests/traps.py writes it"


def test_all_findings_are_told_at_once():

    trap = TRAPS["carry_compared"]
    made = trap.wrong(**{port: kind() for port, kind in trap.ports.items()})
    with pytest.raises(
        ConversionError, match=r"wrong has 2 constructs that MyHDL converts wrongly:\n  traps.py:\d+: a \+ a"
    ):
        check_block(made)


@pytest.mark.parametrize("inline", [False, True])
def test_a_block_that_becomes_a_module_has_bare_names(inline):
    """A process of it is called in the module as in its source; one of an inline block has the block's name before."""

    @block(inline=inline)
    def inner(a, y):
        @always_comb
        def begin():
            y.next = not a

        return begin

    @block
    def outer(a, y):
        return inner(a, y)

    found = findings(outer(Signal(bool(0)), Signal(bool(0))))
    assert [finding.reason for finding in found] == (
        [] if inline else ["the process begin is called like a reserved word of Verilog and VHDL"]
    )


@pytest.mark.parametrize("name", ["2x2", "4x2", "2x8", "2x2 int16", "4x4 int4", "8x8", "2x2 os", "4x2 os", "2x8 os"])
def test_the_generated_accelerators_are_lawful(name):
    accelerator = MACHINES[name]
    # MyHDL inspects the whole call stack for every block that it makes: a thread of its own has a short one
    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(lambda: core_of(accelerator)(**Ports(accelerator).as_dict(), accelerator=accelerator))
        assert findings(made.result()) == []
