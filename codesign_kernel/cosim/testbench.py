"""Self-checking test benches in Verilog and VHDL, with vectors: the proof of a bundle for those without Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign_kernel.accelerator.isa import EXTERNAL_BITS, Instruction, Op
from codesign_kernel.accelerator.types import ADDRESS_BITS, INSTRUCTION_BITS
from codesign_kernel.cosim.job import Job, job_of
from codesign_kernel.cosim.testbench_text import MAKEFILE, README, VERILOG, VHDL
from codesign_kernel.lower import Program, lower
from codesign_kernel.optimize.integer import IntegerNetwork
from codesign_kernel.rtl.core import Ports
from codesign_kernel.rtl.generate import RtlBundle

Array = np.ndarray[Any, Any]


def hex_lines(data: Array, size: int) -> str:
    """Bytes of the external memory as benches read them: a line for each word of the bus, highest byte first."""
    return "".join(f"{beat[::-1].tobytes().hex()}\n" for beat in data.reshape(-1, size))


def _hex_words(words: list[int]) -> str:
    return "".join(f"{word:0{INSTRUCTION_BITS // 4}x}\n" for word in words)


def _clearing(program: Program) -> list[int]:
    """A program that fills the activation memory with what lies beyond the end of the external memory: zeros.

    Hardware does without: a lane that no result fills meets weights of zero. In simulation X times zero is X.
    """
    beyond = program.memory_bytes * 8 // program.accelerator.bus_bits
    depth = program.accelerator.memory("activation").depth
    load = Instruction(Op.LOADA, {"addr": 0, "ext": beyond, "count": depth})
    return [load.encode(), Instruction(Op.HALT).encode()]


def _verilog_signals(bundle: RtlBundle) -> str:
    lines = []
    for name, signal in Ports(bundle.accelerator).as_dict().items():
        width = f"[{len(signal) - 1}:0] " if len(signal) > 1 else ""
        driven = name in Ports.OUTPUTS
        lines.append(f"  {'wire' if driven else 'reg'} {width}{name}{'' if driven else ' = 0'};")
    return "\n".join(lines)


def _vhdl_signals(bundle: RtlBundle) -> str:
    return "\n".join(
        f"  signal {name}: unsigned({len(signal) - 1} downto 0) := (others => '0');"
        if len(signal) > 1
        else f"  signal {name}: std_logic := '0';"
        for name, signal in Ports(bundle.accelerator).as_dict().items()
    )


def _numbers(bundle: RtlBundle, program: Program, job: Job, cycles: int, boot_cycles: int) -> dict[str, Any]:
    """What the texts of the benches are filled in with."""
    accelerator = bundle.accelerator
    size, clearing = accelerator.bus_bits // 8, _clearing(program)
    output = job.outputs_at[0]
    clear_cycles = sum(program.cycles_of(Instruction.decode(word)) for word in clearing)
    return {
        "top": bundle.top, "network": program.network.name, "accelerator": accelerator,
        "vectors": len(job.inputs), "words": len(job.words), "clear_words": len(clearing),
        "bus": accelerator.bus_bits, "word": INSTRUCTION_BITS, "address": ADDRESS_BITS, "external": EXTERNAL_BITS,
        "beats": len(job.memory) // size,
        "input_at": job.input_at.start // size, "input_beats": (job.input_at.stop - job.input_at.start) // size,
        "output_at": output.start // size, "output_beats": (output.stop - output.start) // size,
        "boot": int(job.boot), "entry": job.entry, "cycles": cycles, "boot_cycles": boot_cycles,
        "clear_cycles": clear_cycles, "limit": max(job.limit, 2 * clear_cycles),
        "latency": accelerator.memory_latency,
    }  # fmt: skip


def bench_files(
    bundle: RtlBundle, network: IntegerNetwork, inputs: Any, *, cycles_model: int, boot_cycles_model: int
) -> Mapping[str, str]:
    """A self-checking test bench of ``bundle`` that runs ``network`` on ``inputs``: file name -> text.

    The benches, one in Verilog-2005 and one in VHDL-2008, read the same vectors. They load the program, run it on every
    input and serve as the external memory; they compare every word of every result with the golden model, and the
    cycles of every run with the prediction. Each difference is a line; the last line is ``PASS n vectors, c cycles
    each`` or ``FAIL k errors``, and with the latter the simulator ends with an error. ``Makefile`` and ``README.md``
    say how to run them on Icarus Verilog, Verilator, GHDL and ModelSim.

    Args:
        bundle: the RTL; the files of the bench belong into a folder inside the one that has its files.
        network: what to run.
        inputs: [N, C, H, W]; floats are quantised by the network, integers taken as quantised.
        cycles_model, boot_cycles_model: the prediction of one inference and of loading the weights.

    Raises:
        InvalidInputError: the inputs do not fit the network.
        CapacityError: the network does not fit the accelerator.
    """
    x = network.as_quantized(inputs)
    program = lower(network, bundle.accelerator)
    job, size = job_of(program, x), bundle.accelerator.bus_bits // 8
    place = program.maps[len(network.layers) - 1]
    golden = network.predict(x).reshape(len(x), place.channels, place.height, place.width)
    numbers = _numbers(bundle, program, job, cycles_model, boot_cycles_model)
    ports = Ports(bundle.accelerator).as_dict()
    packages = [name for name in bundle.files if name.endswith(".vhd") and name != f"{bundle.top}.vhd"]
    sources = {
        "verilog": " ".join(f"../{name}" for name in bundle.files if name.endswith(".v")),
        "vhdl": " ".join(f"../{name}" for name in [*packages, f"{bundle.top}.vhd"]),
    }
    connected = ", ".join(f".{name}({name})" for name in ports)
    return {
        f"tb_{bundle.top}.v": VERILOG.format(**numbers, signals=_verilog_signals(bundle), ports=connected),
        f"tb_{bundle.top}.vhd": VHDL.format(
            **numbers, signals=_vhdl_signals(bundle), ports=", ".join(f"{name} => {name}" for name in ports)
        ),
        "clear.hex": _hex_words(_clearing(program)),
        "program.hex": _hex_words(job.words),
        "memory.hex": hex_lines(job.memory, size),
        "inputs.hex": hex_lines(job.inputs, size),
        "expected.hex": hex_lines(program.bytes_at(place, golden), size),
        "mask.hex": hex_lines(program.bytes_at(place, np.full_like(golden[:1], -1)), size),
        "Makefile": MAKEFILE.format(**numbers, **sources),
        "README.md": README.format(**numbers),
    }
