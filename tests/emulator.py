"""The instruction set as a plain interpreter: runs a program on arrays, and trips over every word read before written.

It knows the documented meaning of the instructions and nothing of how programs are made. Memories hold ``None`` until
they are written, so that an address that is off by one is an error here even where the hardware would get away with it.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from codesign_kernel.accelerator import Accelerator
from codesign_kernel.accelerator.isa import Instruction, Op
from codesign_kernel.lower import Program


def signed(value: int, bits: int) -> int:
    """The lowest ``bits`` of ``value`` as two's complement."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class Emulator:
    """One accelerator with its instructions and its external memory (bytes, changed in place)."""

    def __init__(self, a: Accelerator, words: list[int], external: np.ndarray) -> None:
        self.a, self.instructions, self.external = a, words, external
        depth = {level.name: level.depth for level in a.memories}
        self.activation: list[list[int | None]] = [[None] * a.lanes for _ in range(depth["activation"])]
        self.weight: list[list[int] | None] = [None] * depth["weight"]
        self.sums: list[list[int] | None] = [None] * depth.get("accumulator", 0)
        self.results_at = 0
        self.lanes: list[tuple[int, int, int]] = []
        assert len(words) <= depth["instruction"]

    @classmethod
    def of(cls, program: Program) -> Emulator:
        """The accelerator of ``program``, its parameters in external memory."""
        external = np.zeros(program.memory_bytes, dtype=np.uint8)
        external[: len(program.parameters)] = program.parameters
        return cls(program.accelerator, program.words, external)

    def run(self, entry: int) -> int:
        """Execute from ``entry`` to HALT; the number of instructions."""
        at = entry
        while True:
            instruction = Instruction.decode(self.instructions[at])
            at += 1
            if instruction.op == Op.HALT:
                return at - entry
            getattr(self, instruction.op.name.lower())(**instruction.fields)

    def infer(self, program: Program, image: np.ndarray) -> np.ndarray:
        """The output map (K, H, W) for one quantised input map, after the boot where there is one."""
        return self.infer_all(program, image[None])[0]

    def infer_all(self, program: Program, images: np.ndarray) -> np.ndarray:
        """The output maps (batch, K, H, W) of one run, for as many quantised input maps."""
        first, last = program.maps[-1], program.maps[len(program.network.layers) - 1]
        self.external[program.bytes_of(first)] = program.pack(images)[0]
        self.run(program.entry)
        return program.unpack(self.external[program.bytes_of(last)][None], last)

    def _fetch(self, beat: int, beats: int, count: int) -> list[int]:
        size = self.a.bus_bits // 8
        data = self.external[beat * size : (beat + beats) * size].tobytes()
        assert len(data) == beats * size, "a load beyond the external memory"
        bits = self.a.weight_bits
        word = int.from_bytes(data, "little")
        return [signed(word >> (i * bits), bits) for i in range(count)]

    def loadp(self, addr: int, ext: int, count: int) -> None:
        for i in range(count):
            self.weight[addr + i] = self._fetch(ext + i * self.a.weight_beats, self.a.weight_beats, self.a.cols)

    def loada(self, addr: int, ext: int, count: int) -> None:
        for i in range(count):
            beats = self.a.activation_beats
            self.activation[addr + i][:] = self._fetch(ext + i * beats, beats, self.a.lanes)

    def save(self, addr: int, ext: int, count: int) -> None:
        bits, size = self.a.weight_bits, self.a.word_bits // 8
        for i in range(count):
            # lanes beyond the last tile of channels are never written; the hardware saves what lies there
            word = sum(((v or 0) & ((1 << bits) - 1)) << (j * bits) for j, v in enumerate(self.activation[addr + i]))
            start = ext * (self.a.bus_bits // 8) + i * size
            assert start + size <= len(self.external), "a save beyond the external memory"
            self.external[start : start + size] = list(word.to_bytes(size, "little"))

    def loadq(self, waddr: int, count: int) -> None:
        packed = [0] * self.a.cols
        for i in range(count):
            row = self.weight[waddr + i]
            assert row is not None
            for j, value in enumerate(row):
                packed[j] |= (value & ((1 << self.a.weight_bits) - 1)) << (i * self.a.weight_bits)
        # bias, multiplier and shift end with the last row
        acc = self.a.acc_bits
        packed = [p >> count * self.a.weight_bits - (acc + 24) for p in packed]
        self.lanes = [(signed(p, acc), p >> acc & 0xFFFF, (p >> acc + 16 & 0xFF) + 1) for p in packed]

    def rows_of(self, waddr: int, first: int, count: int, per_word: int) -> list[list[int]]:
        """Rows ``first`` and on of weights of which a word holds ``per_word``, in the words from ``waddr`` on."""
        bits, found = self.a.weight_bits // per_word, []
        assert per_word == 1 or bits >= self.a.min_weight_bits > 0, "weights narrower than the accelerator unpacks"
        for at in range(first, first + count):
            word = self.weight[waddr + at // per_word]
            assert word is not None
            row, low, half = at % per_word, 0, self.a.weight_bits // 2
            while row:
                low, row, half = low + (row & 1) * half, row >> 1, half // 2
            found.append([signed(lane >> low, bits) for lane in word])
        return found

    def conv(self, per_word: int = 1, **f: int) -> None:
        a = self.a
        banks = max(a.cols // a.rows, 1)
        for key in ("ix0", "iy0"):
            f[key] = signed(f[key], 12)
        plane, bank, taken, first = f["addr"], f["bank"] if a.cols > a.rows else 0, 0, not f["acc"]
        for _ in range(f["nct"]):
            for fy, fx in product(range(f["nfy"]), range(f["nfx"])):
                rows = self.rows_of(f["waddr"], taken, a.rows, per_word)
                weights = np.array(rows[::-1] if a.dataflow == "ws" else rows)
                taken += a.rows
                start = plane + fy * f["tap_row"] + fx * f["dx"]
                for at, (y, x) in enumerate(product(range(f["ny"]), range(f["nx"]))):
                    py, px = f["iy0"] + fy * f["dy"] + y * f["sy"], f["ix0"] + fx * f["dx"] + x * f["sx"]
                    word = [0] * a.rows
                    if 0 <= py < f["height"] and 0 <= px < f["width"]:
                        word = self._word((start + y * f["row_step"] + x * f["sx"]) % (1 << 18), bank)
                    added = np.array(word) @ weights
                    before = self.sums[at]
                    assert first or before is not None
                    self.sums[at] = added.tolist() if first else (added + before).tolist()
                first = False
            bank += 1
            if bank == banks:
                bank, plane = 0, plane + f["ct_step"]

    def tile(self, addr: int, waddr: int, count: int) -> None:
        self.loadq(waddr, count)
        self.results_at = addr

    def sum(self, relu: int, bank: int, nx: int, ny: int, window: int, **taps: int) -> None:
        """What CONV and STORE do, with the sums in the array; the bank is that of the input or of the output."""
        assert self.a.dataflow == "os"
        self.sums = [None] * (nx * ny * window * window)
        self.conv(acc=0, bank=bank, nx=nx * window, ny=ny * window, **taps)
        self.store(relu=relu, bank=bank, addr=self.results_at, nx=nx, ny=ny, pool=window, acc_row=nx * window)

    def _word(self, address: int, bank: int) -> list[int]:
        """What the rows read: channels that no layer wrote meet weights of zero, so their value does not matter."""
        return self._channels(address, bank * self.a.rows, self.a.rows)

    def _channels(self, address: int, low: int, count: int) -> list[int]:
        values = self.activation[address][low : low + count]
        assert any(value is not None for value in values), f"activation {address} is read before it is written"
        return [value or 0 for value in values]

    def store(self, relu: int, bank: int, addr: int, nx: int, ny: int, pool: int, acc_row: int) -> None:
        for y, x in product(range(ny), range(nx)):
            window: list[Any] = [
                self.sums[(y * pool + ky) * acc_row + x * pool + kx] for ky, kx in product(range(pool), repeat=2)
            ]
            assert None not in window
            self._write(addr + y * nx + x, bank, [max(sums) for sums in zip(*window, strict=True)], relu)

    def pool(self, relu: int, sum: int, bank: int, addr: int, to: int, nx: int, ny: int, **f: int) -> None:
        low = bank * self.a.cols if self.a.cols < self.a.rows else 0
        ix0, iy0, side = signed(f["ix0"], 12), signed(f["iy0"], 12), 1 << 18
        for y, x in product(range(ny), range(nx)):
            window = []
            for ky, kx in product(range(f["nfy"]), range(f["nfx"])):
                px, py = ix0 + x * f["sx"] + kx * f["dx"], iy0 + y * f["sy"] + ky * f["dy"]
                if 0 <= px < f["width"] and 0 <= py < f["height"]:
                    at = addr + y * f["row_step"] + x * f["sx"] + ky * f["tap_row"] + kx * f["dx"]
                    window.append(self._channels(at % side, low, self.a.cols))
            assert window or sum, "a maximum of nothing"
            values = [*zip(*window, strict=True)] or [()] * self.a.cols
            pooled = [int(np.sum(v)) if sum else max(v) for v in values]
            self._write(to + y * nx + x, bank, pooled, relu)

    def _write(self, address: int, bank: int, totals: list[int], relu: int) -> None:
        """Requantised, to the bank of the word; of what is no channel, any value does."""
        a, top = self.a, 1 << (self.a.weight_bits - 1)
        results = []
        for total, (bias, multiplier, shift) in zip(totals, self.lanes, strict=True):
            scaled = ((total + bias) * multiplier + (1 << (shift - 1))) >> shift
            clamped = max(-top, min(top - 1, scaled))
            results.append(max(0, clamped) if relu else clamped)
        low = bank * a.cols if a.cols < a.rows else 0
        self.activation[address][low : low + a.cols] = results
