"""``generate_rtl``: the sources of an accelerator, and where a network is given the test bench that proves them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from codesign_kernel.accelerator.spatial import SpatialArray
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.rtl import RtlBundle
from codesign_kernel.rtl import generate_rtl as sources_of
from codesign_kernel.session.scoped import scoped

if TYPE_CHECKING:
    from codesign_kernel.optimize.integer import IntegerNetwork


def check_generated(design: object, what: str) -> None:
    """Refuse a machine that no RTL is generated for; ``what`` would have needed it.

    Raises:
        InvalidInputError: it is a :class:`SpatialArray`, or a :class:`Design` of one.
    """
    if isinstance(getattr(design, "accelerator", design), SpatialArray):
        raise InvalidInputError(
            f"{what} takes an Accelerator or a Design of one, because RTL is generated for nothing else, but got a "
            "SpatialArray; choose one of the templates that are called generator_..., or rows and cols of your own"
        )


@scoped("generate_rtl")
def generate_rtl(design: object, network: IntegerNetwork | None = None, inputs: Any = None) -> RtlBundle:
    """The accelerator of ``design`` as Verilog and VHDL, converted by MyHDL in a fresh process.

    The same accelerator gives the same bytes on every run. The node does not change the sources; bandwidth and clock do
    only through the width of the bus, which is the bandwidth over the clock.

    With a network and inputs the bundle has a self-checking test bench too, in both languages: it compares every word
    of every result with the golden model and the cycles of every run with the cost model. ``bundle.write(folder)``
    writes it into ``folder/testbench``; its ``README.md`` says how to run it without Python.

    Args:
        design: an :class:`Accelerator` or a :class:`Design`.
        network: a quantised network of the accelerator's precision.
        inputs: [N, C, H, W]; floats are quantised by the network, integers taken as quantised.

    Raises:
        InvalidInputError: an argument is of another kind, or one of ``network`` and ``inputs`` is missing.
        InfeasibleDesignError, CapacityError: the network does not fit the accelerator.
        ConversionError: MyHDL rejects a construct, or takes too long.
    """
    if (network is None) != (inputs is None):
        raise InvalidInputError("a test bench runs a network on inputs, but got only one of the two; give both")
    if network is None:
        return sources_of(design)
    from codesign_kernel.cosim.testbench import bench_files
    from codesign_kernel.cost import evaluate
    from codesign_kernel.optimize.integer import IntegerNetwork

    if not isinstance(network, IntegerNetwork):
        raise InvalidInputError(
            f"a test bench runs an IntegerNetwork, but got {type(network).__name__}; call quantize first"
        )
    cost = evaluate(network, design)
    bundle = sources_of(design)
    texts = bench_files(bundle, network, inputs, cycles_model=cost.latency_cycle, boot_cycles_model=cost.boot_cycle)
    return replace(bundle, testbench=texts)
