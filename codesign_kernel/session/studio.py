"""``Studio``: one accelerator at a time and what was made of it, for an app that generates, reads and proves RTL."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.cosim import CosimReport, Recording
from codesign_kernel.cosim.simulators import simulators
from codesign_kernel.cost import Cost
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.rtl import RtlBundle
from codesign_kernel.scopes import within
from codesign_kernel.session.digits import digits_accuracy, digits_images, digits_network
from codesign_kernel.session.generation import generate_rtl
from codesign_kernel.session.scoped import evaluate
from codesign_kernel.session.steps import cosimulate, record_waves
from codesign_kernel.units import quantity

Progress = Callable[[int, int, str], None]
Values = Mapping[str, Any]
#: Memories that nobody has to think about here: they hold what the digits network needs on any of the arrays.
ACCUMULATOR_KIB, INSTRUCTION_KIB = 2, 8
#: Images of the bench that goes with the sources.
BENCH_IMAGES = 3
#: Zip files begin with this date: the same sources give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


class Studio:
    """The digits network and the accelerator that it runs on.

    Attributes:
        bundle: sources of the accelerator that was generated last; None before. design, network: what they are of.
    """

    def __init__(self) -> None:
        self.bundle: RtlBundle | None = None
        self.design: Accelerator | None = None
        self.network: IntegerNetwork | None = None

    def design_of(self, values: Values) -> Accelerator:
        """The accelerator of ``dataflow``, ``rows``, ``cols``, ``bits``, ``activation_kib`` and ``weight_kib``.

        Raises:
            InvalidInputError: they break a law of the template.
        """
        return Accelerator.systolic(
            int(values["rows"]), int(values["cols"]), dataflow=values["dataflow"], weight_bits=int(values["bits"]),
            activation_kib=values["activation_kib"], weight_kib=values["weight_kib"],
            accumulator_kib=ACCUMULATOR_KIB, instruction_kib=INSTRUCTION_KIB,
        )  # fmt: skip

    def expected(self, values: Values) -> list[dict[str, str]]:
        """What one digit will cost on that accelerator, as tiles, from shapes alone.

        Raises:
            InvalidInputError, InfeasibleDesignError: there is no such accelerator, or it is too small for the network.
        """
        bits = int(values["bits"])
        return _tiles(evaluate(digits_network(bits), self.design_of(values)), bits)

    def generate(self, values: Values, progress: Progress) -> RtlBundle:
        """Generate the accelerator's sources, with a test bench of some images, and keep them as :attr:`bundle`.

        Raises:
            InvalidInputError, InfeasibleDesignError, ConversionError: as for ``generate_rtl``.
        """
        design, network = self.design_of(values), digits_network(int(values["bits"]))
        progress(0, 0, "converting MyHDL to Verilog and VHDL")
        bundle = generate_rtl(design, network, digits_images()[0][:BENCH_IMAGES])
        self.design, self.network, self.bundle = design, network, bundle
        return bundle

    def cosimulate(self, simulator: str, vectors: int, progress: Progress, stop: Callable[[], bool]) -> CosimReport:
        """Run so many test images on the sources; see :func:`codesign_kernel.cosimulate`.

        Raises:
            InvalidInputError: nothing was generated so far.
        """
        bundle, network = self._made()
        images = digits_images()[0][:vectors]
        return cosimulate(bundle.accelerator, network, images, simulator, progress, stop=stop, bundle=bundle)

    def waves(self) -> Recording:
        """The run of the first test image, to be looked at."""
        bundle, network = self._made()
        # Icarus shows any of these runs sooner than Verilator is compiled
        simulator = "auto" if simulators()["icarus"] else "icarus"
        return record_waves(bundle.accelerator, network, digits_images()[0][:1], simulator, bundle=bundle)

    def archive(self) -> tuple[str, bytes]:
        """Name and bytes of a zip file of the sources and their test bench."""
        bundle, _ = self._made()
        machine = bundle.accelerator
        name = f"{machine.rows}x{machine.cols}-{machine.dataflow}-int{machine.weight_bits}"
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, text in sorted(bundle.texts.items()):
                archive.writestr(zipfile.ZipInfo(f"{name}/{path}", _DATE), text, zipfile.ZIP_DEFLATED)
        within("artefact_bytes", packed.tell())
        return f"codesign-{name}.zip", packed.getvalue()

    def _made(self) -> tuple[RtlBundle, IntegerNetwork]:
        if self.bundle is None or self.network is None:
            raise InvalidInputError("there are no sources so far; generate the accelerator first")
        return self.bundle, self.network


def _tiles(cost: Cost, bits: int) -> list[dict[str, str]]:
    machine = cost.accelerator
    pico = 1e-12
    low, high = (quantity(e * pico, "J") for e in (cost.energy_low_pj, cost.energy_high_pj))
    return [
        {"label": "One digit", "value": f"{cost.latency_cycle:,} cycles",
         "note": f"{quantity(cost.latency_s, 's')} at {machine.frequency_mhz:g} MHz, to be proven below"},
        {"label": "Array busy", "value": f"{cost.utilization:.0%}", "note": f"of {machine.pes:,} multipliers"},
        {"label": "Energy", "value": quantity(cost.energy_pj * pico, "J"), "note": f"estimate: {low} to {high}"},
        {"label": "Area", "value": f"{cost.area_um2 * 1e-6:.3g} mm²", "note": f"at {machine.node_nm:g} nm, estimate"},
        {"label": "Right", "value": f"{digits_accuracy(bits):.1%}", "note": f"of 450 digits, in int{bits}"},
    ]  # fmt: skip
