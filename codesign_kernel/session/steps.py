"""``sweep`` and ``cosimulate``: the two places where the wing that estimates and the wing that builds meet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign_kernel.cosim import CosimReport, Recording, check, find_recorder, find_simulator, recording
from codesign_kernel.cost import evaluate
from codesign_kernel.cost.spatial import check_objective
from codesign_kernel.cost.table import result_columns, spatial_columns
from codesign_kernel.design import DesignSpace, SpatialSpace
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.explore import sweep as explore_sweep
from codesign_kernel.files import check_file
from codesign_kernel.lower import lower
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.rtl import RtlBundle, generate_rtl
from codesign_kernel.session.generation import check_generated
from codesign_kernel.session.scoped import scoped
from codesign_kernel.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int, str], None]


#: Spatial arrays that are mapped together: their tables of mappings serve all that differ only in their buffers.
SPATIAL_CHUNK = 1 << 20


@scoped("sweep")
def sweep(
    workload: Any,
    space: DesignSpace,
    *,
    indices: Any = None,
    fusion: bool = True,
    objective: str = "latency",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Every design of ``space`` running ``workload``: one row a design.

    Args:
        workload: a :class:`Workload`, or anything with one in ``.workload``.
        space: the designs; those of a :class:`SpatialSpace` run every layer with its best mapping.
        indices: numbers of the designs to evaluate; all without.
        fusion, objective: of a SpatialSpace, as for :func:`codesign_kernel.evaluate`.
        progress: called as ``progress(done, total, message)``.

    Returns:
        A frame with the parameters of the space, ``latency_cycle``, ``latency_ms``, ``energy_uj``, ``energy_low_uj``,
        ``energy_high_uj``, ``area_mm2``, ``power_mw``, ``utilization`` (NaN where a design cannot run the workload),
        ``feasible`` and ``reason``; its index is the number of the design.

    Raises:
        InvalidInputError: an argument is of another kind, or the workload does no MACs.
    """
    work = getattr(workload, "workload", workload)
    if not isinstance(work, Workload):
        raise InvalidInputError(
            f"sweep takes a Workload, a Profile or an IntegerNetwork, but got {type(workload).__name__}"
        )
    if not isinstance(space, DesignSpace):
        raise InvalidInputError(f"sweep takes a DesignSpace, but got {type(space).__name__}")
    if not isinstance(space, SpatialSpace):
        if objective != "latency":
            raise InvalidInputError(
                "the generated accelerator has one mapping, but objective= asks to choose one; sweep a SpatialSpace"
            )
        return explore_sweep(space, partial(result_columns, work), indices=indices, progress=progress)
    check_objective(objective)
    size = space.size if indices is None else len(np.atleast_1d(indices))
    # one chunk tells its own progress, array by array
    told = partial(spatial_columns, progress=progress) if size <= SPATIAL_CHUNK else spatial_columns
    evaluate_columns = partial(told, work, fusion=fusion, objective=objective)
    between = progress if size > SPATIAL_CHUNK else None
    return explore_sweep(space, evaluate_columns, indices=indices, progress=between, chunk=SPATIAL_CHUNK)


@scoped("record_waves")
def record_waves(
    design: Any,
    network: IntegerNetwork,
    inputs: Any,
    simulator: str = "auto",
    progress: Progress | None = None,
    *,
    bundle: RtlBundle | None = None,
    stop: Callable[[], bool] | None = None,
) -> Recording:
    """One inference on the RTL of ``design`` to be looked at: any window of its waveform, simulated when asked.

    Args:
        design, network, simulator, progress, bundle, stop: as for :func:`cosimulate`. ``"auto"`` takes of those
            that run here Icarus, which starts at once, for a short run on a small array, else Verilator, which is
            compiled first, else MyHDL.
        inputs: one input [1, C, H, W].

    Raises:
        InvalidInputError: an argument does not fit; there is another number of inputs than one.
        InfeasibleDesignError, CapacityError: the network does not fit the accelerator.
        SimulatorError: the simulator is not installed or failed.
        StoppedError: ``stop`` said so.
    """
    if not isinstance(network, IntegerNetwork):
        raise InvalidInputError(
            f"record_waves takes an IntegerNetwork, but got {type(network).__name__}; call quantize first"
        )
    chosen = None if simulator == "auto" else find_simulator(simulator)
    _check_bundle(bundle, design)
    x = network.as_quantized(inputs)
    if len(x) != 1:
        raise InvalidInputError(f"a recording is of one input, but got {len(x)}; give inputs[:1]")
    program = lower(network, design)
    chosen = chosen or find_recorder(program.cycles * program.accelerator.pes)
    return recording(bundle or generate_rtl(design), program, x, chosen, progress, stop)


def _check_bundle(bundle: object, design: Any) -> None:
    """
    Raises:
        InvalidInputError: ``bundle`` is something else than sources of ``design``, or ``None``.
    """
    if bundle is None:
        return
    if not isinstance(bundle, RtlBundle) or bundle.accelerator != getattr(design, "accelerator", design):
        raise InvalidInputError(f"bundle is an RtlBundle of the design, but got {bundle!r}; generate_rtl makes one")


@scoped("cosimulate")
def cosimulate(
    design: Any,
    network: IntegerNetwork,
    inputs: Any,
    simulator: str = "auto",
    progress: Progress | None = None,
    *,
    batch: int = 1,
    vcd: str | Path | None = None,
    window: tuple[int, int] | None = None,
    stop: Callable[[], bool] | None = None,
    bundle: RtlBundle | None = None,
) -> CosimReport:
    """Run ``network`` on the generated RTL of ``design`` and compare with the golden model and the cost model.

    Args:
        design: an :class:`Accelerator` or a :class:`Design`.
        network: a quantised network of the accelerator's precision.
        inputs: [N, C, H, W]; floats are quantised by the network, integers taken as quantised.
        simulator: ``"verilator"`` or ``"icarus"`` for the Verilog, ``"ghdl"`` for the VHDL, ``"myhdl"`` for the model
            that both are made of; ``"auto"``: Verilator where it runs, else MyHDL.
        progress: called as ``progress(done, total, message)``.
        batch: inferences of one run of the program, which share the weights of fully connected layers; cycles are then
            those of a run.
        vcd: file for the waveform of one run: that of the first input that differs, else of the first. In it a cycle
            takes 2 ns, and cycle c of the run, as the port ``cycles`` counts, begins at 2 c.
        window: (first, last) cycle to write; without, the whole run.
        stop: asked about ten times a second while a simulator is built and runs, from several threads; once it says so,
            the simulator's process is ended.
        bundle: sources of the design to simulate in place of those that are generated, such as some that were edited.
            ``"myhdl"`` simulates no sources, but the model that they are made of.

    Raises:
        InvalidInputError: an argument does not fit; the simulator is unknown.
        OutputError: the waveform cannot be written.
        InfeasibleDesignError, CapacityError: the network does not fit the accelerator.
        SimulatorError: the simulator is not installed or failed.
        StoppedError: ``stop`` said so.
    """
    if not isinstance(network, IntegerNetwork):
        raise InvalidInputError(
            f"cosimulate takes an IntegerNetwork, but got {type(network).__name__}; call quantize first"
        )
    check_generated(design, "cosimulate")
    chosen = find_simulator(simulator)
    waves = None if vcd is None else Path(vcd)
    if waves is not None:
        check_file(waves)
    elif window is not None:
        raise InvalidInputError(f"window is the part of a waveform to write, but got {window!r} without vcd=")
    _check_bundle(bundle, design)
    # what does not fit is refused before the RTL is made
    cost = evaluate(network.workload.with_batch(batch) if batch != 1 else network, design)
    lower(network, design, batch=batch)
    return check(
        bundle or generate_rtl(design), network, inputs, chosen,
        cycles_model=cost.latency_cycle, boot_cycles_model=cost.boot_cycle, batch=batch, progress=progress,
        vcd=waves, window=window, stop=stop,
    )  # fmt: skip
