"""Networks trained on the digits, run on the RTL of an 8x8 array image by image: bits, cycles, and seconds.

LeNet-5 runs on digits enlarged to 28x28, once on buffers that hold it and once on buffers too small for its
weights and for its maps; the residual network has a downsampling branch, the last one
depthwise convolutions and ReLU6.
Every image is compared with the golden model bit for bit, and every instruction's cycles with their prediction. The
seconds are those of the comparison once the model is compiled; training and compiling stand beside them.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from dataclasses import replace
from typing import NamedTuple

import codesign_kernel as ck
from codesign_kernel.lower import lower
from codesign_kernel.optimize import train_digits

ARRAY = ck.Accelerator.systolic(8, 8, instruction_kib=64)
#: The maps of LeNet-5 take up to 6.1 KiB (6 channels in words of 8), its weights 61 KiB.
TIGHT = replace(ARRAY, activation_kib=1.5, weight_kib=4, accumulator_kib=1)


class Case(NamedTuple):
    """A network, what it runs on, and how many images."""

    network: str
    accelerator: ck.Accelerator
    images: int
    batch: int = 1


CASES = (
    Case("cnn", ARRAY, 1797),
    Case("lenet5", ARRAY, 1000),
    Case("lenet5", ARRAY, 1000, 8),
    Case("lenet5", TIGHT, 1000),
    Case("resnet", ARRAY, 1797),
    Case("mobilenet", ARRAY, 1797),
)


def spills(network: ck.IntegerNetwork, accelerator: ck.Accelerator) -> str:
    """What goes through external memory: weights, and how many of the maps between layers."""
    program = lower(network, accelerator)
    return f"{'-' if program.boot else 'w'}+{len(program.maps) - 2}"


def main(arguments: list[str] | None = None) -> None:
    """Print a table; exit with an error where something differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, metavar="N", help="at most so many images of each")
    most = parser.parse_args(arguments).images
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    heads = ("network", "batch", "memory", "images", "float", "int8", "RTL", "cycles", "utilised", "train s", "build s")
    print(" ".join(f"{head:>9}" for head in (*heads, "run s")))
    trained: dict[str, tuple[ck.IntegerNetwork, object, float, float]] = {}
    for name, accelerator, images, batch in CASES:
        if name not in trained:
            started = time.perf_counter()
            model, data, accuracy = train_digits(seed=0, network=name)
            network = ck.quantize(model, data.calibration_x)
            trained[name] = network, data, accuracy, time.perf_counter() - started
        network, data, accuracy, training = trained[name]
        count = min(images, most or images)
        x, y = data.all_x[:count], data.all_y[:count]  # type: ignore[attr-defined]
        started = time.perf_counter()
        ck.cosimulate(accelerator, network, x[:batch], "verilator", batch=batch)
        built = time.perf_counter()
        report = ck.cosimulate(accelerator, network, x, "verilator", batch=batch)
        run = time.perf_counter() - built
        if not report.passed:
            sys.exit(str(report))
        golden = (network.predict(data.test_x).argmax(1) == data.test_y).mean()  # type: ignore[attr-defined]
        right = (report.outputs.argmax(1) == y).mean()
        each = report.cycles_rtl / batch
        used = network.workload.macs / (each * accelerator.pes)
        cells = (
            name, batch, spills(network, accelerator), count, f"{accuracy:.2%}", f"{golden:.2%}", f"{right:.2%}",
            f"{each:,.0f}", f"{used:.1%}", f"{training:.1f}", f"{built - started:.1f}", f"{run:.1f}",
        )  # fmt: skip
        print(" ".join(f"{cell:>9}" for cell in cells), flush=True)
    print("\nEvery image agrees bit for bit, and every instruction took the predicted cycles: those of an image.")
    print("memory: w where weights are loaded for each run, and how many maps between layers go out and come back.")
    print("float and int8 are of the held-out images, RTL of all that ran, those of the training among them.")


if __name__ == "__main__":
    main()
