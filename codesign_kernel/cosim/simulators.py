"""The simulators by name. MyHDL itself is loaded only when one that needs it is asked for."""

from __future__ import annotations

from importlib import import_module

from codesign_kernel.cosim.job import Simulator
from codesign_kernel.errors import InvalidInputError, SimulatorError

#: name -> (module, class), the fastest first. ``auto`` takes Verilator where it runs, else MyHDL: Icarus over VPI needs
#: more than MyHDL and is hardly faster.
SIMULATORS = {
    "verilator": ("codesign_kernel.cosim.verilated", "VerilatorSimulator"),
    "icarus": ("codesign_kernel.cosim.bench", "IcarusSimulator"),
    "myhdl": ("codesign_kernel.cosim.bench", "MyhdlSimulator"),
    "ghdl": ("codesign_kernel.cosim.vhdl", "GhdlSimulator"),
}
AUTO = ("verilator", "myhdl")
#: MAC slots of a run up to which Icarus shows its waveform sooner than Verilator is compiled.
SHORT = 50_000


def simulator_named(name: str) -> Simulator:
    """The simulator called ``name``.

    Raises:
        InvalidInputError: there is none; the message lists those there are.
    """
    if name not in SIMULATORS:
        raise InvalidInputError(f"simulator is one of {', '.join(map(repr, ('auto', *SIMULATORS)))}, but got {name!r}")
    module, cls = SIMULATORS[name]
    simulator: Simulator = getattr(import_module(module), cls)()
    return simulator


def simulators() -> dict[str, str]:
    """{name: what to install before it runs here, or ""}, the fastest first; quick, as nothing is run."""
    return {name: simulator_named(name).missing() or "" for name in SIMULATORS}


def find_recorder(slots: int) -> Simulator:
    """The simulator that shows the waveform of a run of so many MAC slots (cycles times PEs) the soonest."""
    order = ("icarus", "verilator", "myhdl") if slots <= SHORT else ("verilator", "icarus", "myhdl")
    return next(s for s in map(simulator_named, order) if s.missing() is None)


def find_simulator(name: str = "auto") -> Simulator:
    """A simulator that runs here.

    Raises:
        InvalidInputError: the name is unknown.
        SimulatorError: it does not run here; the message says what to install.
    """
    if name == "auto":
        return next(s for s in map(simulator_named, AUTO) if s.missing() is None)
    simulator = simulator_named(name)
    missing = simulator.missing()
    if missing is not None:
        raise SimulatorError(f"the simulator {name!r} does not run here: {missing}")
    return simulator
