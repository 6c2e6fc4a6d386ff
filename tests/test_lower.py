"""The instruction set, and programs: encoded, listed, and run by an interpreter against the golden model."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from cases import MACHINES, features, machine, random_inputs, random_layer, runnable
from emulator import Emulator

from codesign_kernel.accelerator.isa import (
    FIELDS,
    LAYOUT,
    LESS_ONE,
    OPTIONAL,
    RESERVED,
    RESERVED_OS,
    WRAPS,
    Instruction,
    Op,
)
from codesign_kernel.accelerator.types import INSTRUCTION_BITS
from codesign_kernel.cost import evaluate
from codesign_kernel.design import Design
from codesign_kernel.errors import CapacityError, InvalidInputError
from codesign_kernel.lower import lower
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.session.cases import random_plain


def random_fields(rng: np.random.Generator, op: Op) -> dict[str, int]:
    """Values over the whole range of every field, with both ends among them."""
    fields = {}
    for name in FIELDS[op]:
        least, most = int(name in LESS_ONE), (1 << LAYOUT[name][1]) - 1 + (name in LESS_ONE)
        fields[name] = int(rng.choice([least, most, rng.integers(least, most + 1)]))
        if fields[name] == OPTIONAL.get(name):
            del fields[name]  # as it is decoded
    return fields


def network_of(shape: tuple[int, int, int], *layers, bits: int = 8) -> IntegerNetwork:
    return IntegerNetwork("n", shape, 1.0, bits, layers)


def layer_of(k: int, c: int, f: tuple[int, int], bits: int = 8, **settings):
    return random_layer(np.random.default_rng(0), "big", k, c, f, bits, **settings)


class TestInstructions:
    @pytest.mark.parametrize("op", Op)
    def test_encoding_is_undone_by_decoding(self, op):
        rng = np.random.default_rng(int(op))
        words = set()
        for _ in range(300):
            instruction = Instruction(op, random_fields(rng, op))
            word = instruction.encode()
            words.add(word)
            low, width = LAYOUT["per_word"]
            assert (word >> low) % (1 << width) == instruction.fields.get("per_word", 1) - 1
            plain = word & ~(((1 << width) - 1) << low)
            assert plain >> (RESERVED_OS if op == Op.SUM else RESERVED) == 0
            assert word & 15 == op
            assert Instruction.decode(word) == instruction
        assert len(words) > 100 or op == Op.HALT

    @pytest.mark.parametrize("op", Op)
    def test_fields_share_no_bit(self, op):
        taken = Counter(bit for name in ("op", *FIELDS[op]) for bit in range(*np.cumsum(LAYOUT[name])))
        assert not taken or max(taken.values()) == 1
        above = {*range(*np.cumsum(LAYOUT["per_word"]))} if "per_word" in FIELDS[op] else set()
        assert max({*taken} - above) < (RESERVED_OS if op == Op.SUM else RESERVED) <= INSTRUCTION_BITS
        assert max(above, default=0) < INSTRUCTION_BITS

    @pytest.mark.parametrize(("op", "name"), [(op, name) for op in Op for name in FIELDS[op]])
    def test_a_value_too_large_is_refused_by_name(self, op, name):
        fields = random_fields(np.random.default_rng(0), op)
        least, most = int(name in LESS_ONE), (1 << LAYOUT[name][1]) - 1 + (name in LESS_ONE)
        for value in (least - 1, most + 1):
            instruction = Instruction(op, {**fields, name: value})
            if name in WRAPS.get(op, ()):
                stored = Instruction.decode(instruction.encode())[name]
                assert (stored - value) % (most + 1) == 0
                continue
            told = f"^{name} of {op.name} lies between {least} and {most}, but got {value};"
            with pytest.raises(CapacityError, match=told):
                instruction.encode()

    def test_a_coordinate_left_of_the_map_comes_back_unsigned(self):
        fields = {**random_fields(np.random.default_rng(0), Op.CONV), "ix0": -2, "addr": -3}
        decoded = Instruction.decode(Instruction(Op.CONV, fields).encode())
        assert (decoded["ix0"], decoded["addr"]) == (4096 - 2, 2**18 - 3)

    def test_missing_and_foreign_fields_are_refused(self):
        for fields in ({"addr": 0, "ext": 0}, {"addr": 0, "ext": 0, "count": 1, "pool": 2}):
            with pytest.raises(CapacityError, match="LOADA takes the fields"):
                Instruction(Op.LOADA, fields).encode()


class TestPrograms:
    @pytest.mark.parametrize("name", MACHINES)
    def test_an_interpreter_finds_what_the_golden_model_says(self, name):
        """Booted once, run on one input after the other; nothing is read that was not written."""
        a = MACHINES[name]
        rng = np.random.default_rng(1)
        for program in runnable(a, 40 + [*MACHINES].index(name), 7):
            emulator = Emulator.of(program)
            if program.boot:
                assert emulator.run(0) == len(program.boot)
            x = random_inputs(rng, program.network, 2)
            golden = program.network.predict(x)
            for image, want in zip(x, golden, strict=True):
                assert np.array_equal(emulator.infer(program, image).reshape(want.shape), want), features(program)

    def test_the_sample_meets_every_way_to_cut(self):
        met = Counter(
            f for i, a in enumerate(MACHINES.values()) for program in runnable(a, 40 + i, 7) for f in features(program)
        )
        rare = {
            "chunks",
            "passes",
            "streamed weights",
            "spilled map",
            "stride",
            "dilation",
            "groups",
            "banks",
            "linear",
        }
        rare |= {"add", "average pool", "max pool", "packing"}
        assert all(met[feature] >= 5 for feature in rare), met

    def test_saving_every_layer_shows_every_layer(self):
        for name in ("2x8", "9x3", "4x4 int4", "2x8 os", "9x3 os"):
            for short in runnable(MACHINES[name], 9, 5):
                network = short.network
                program = lower(network, MACHINES[name], every=True)
                assert sorted(program.maps) == list(range(-1, len(network.layers)))
                emulator = Emulator.of(program)
                if program.boot:
                    emulator.run(0)
                x = random_inputs(np.random.default_rng(0), network, 1)
                emulator.infer(program, x[0])
                for i, want in enumerate(network.layer_outputs(x)):
                    place = program.maps[i]
                    got = program.unpack(emulator.external[program.bytes_of(place)][None], place)
                    assert np.array_equal(got.reshape(want.shape), want)

    def test_the_listing_has_every_instruction_and_its_cycles(self):
        for program in runnable(MACHINES["4x4"], 2, 6):
            title, *lines = program.assembly().splitlines()
            assert title.startswith("; random on 4x4 ws int8")
            assert len(lines) == len(program.words)
            cycles = {True: 0, False: 0}
            for address, (line, word) in enumerate(zip(lines, program.words, strict=True)):
                at, taken, op, fields, owner = re.fullmatch(r" *(\d+) +(\d+)  (\w+)\s*(.*?)\s*; (\w+)", line).groups()
                assert int(at) == address
                instruction = Instruction(Op[op], {k: int(v) for k, v in re.findall(r"(\w+)=(-?\d+)", fields)})
                assert instruction.encode() == word
                boots = address < program.entry
                assert (owner == "boot") == boots
                cycles[boots] += int(taken)
            assert cycles[False] == program.cycles
            assert cycles[True] == sum(program.cycles_of(i) for i in program.boot)

    @pytest.mark.parametrize("bits", [4, 8, 16])
    def test_maps_are_packed_and_unpacked(self, bits):
        a = machine(4, 4, 1, 4, 1, weight_bits=bits)
        network = network_of((6, 3, 5), layer_of(9, 6, (1, 1), bits), bits=bits)
        program = lower(network, a)
        x = random_inputs(np.random.default_rng(0), network, 3)
        packed = program.pack(x)
        place = program.maps[-1]
        # 6 channels are two words of 4 lanes for each of 15 positions
        assert packed.shape == (3, 2 * 15 * 4 * bits // 8)
        assert (place.channels, place.height, place.width, place.words) == (6, 3, 5, 30)
        assert np.array_equal(program.unpack(packed, place), x)
        # the first lane is in the lowest bits, channels beyond the last are zero
        mask = (1 << bits) - 1
        word = int.from_bytes(packed[0, : 4 * bits // 8].tobytes(), "little")
        assert [word >> (i * bits) & mask for i in range(4)] == [int(x[0, i, 0, 0]) & mask for i in range(4)]
        last = int.from_bytes(packed[0, -4 * bits // 8 :].tobytes(), "little")
        assert [last >> (i * bits) & mask for i in range(4)] == [int(x[0, i, 2, 4]) & mask for i in (4, 5)] + [0, 0]

    def test_a_design_is_as_good_as_its_accelerator(self):
        network = network_of((3, 5, 5), layer_of(4, 3, (3, 3)))
        a = MACHINES["4x4"]
        assert lower(network, Design(a)).words == lower(network, a).words

    def test_maps_do_not_overlap_in_external_memory(self):
        for program in runnable(MACHINES["8x4"], 4, 10):
            size = program.accelerator.bus_bits // 8
            spans = sorted(
                (program.bytes_of(place).start, program.bytes_of(place).stop) for place in program.maps.values()
            )
            ends = [len(program.parameters), *(stop for _, stop in spans)]
            assert [start for start, _ in spans] == ends[:-1]
            assert ends[-1] == program.memory_bytes
            assert program.memory_bytes % size == 0


class TestBranches:
    """A residual sum of the input, and a pooling of it, on two shapes of arrays."""

    def program(self, a, **rest):
        rng = np.random.default_rng(0)
        c = layer_of(6, 6, (3, 3), padding=(1, 1))
        s = random_plain(rng, "sum", "add", 6, (1, 1), 8, reads=("input", "big"), relu=True)
        p = random_plain(rng, "mean", "avg_pool2d", 6, (3, 2), 8, stride=(2, 1), padding=(1, 0))
        return lower(network_of((6, 5, 4), c, s, p), a, **rest)

    @staticmethod
    def told(program, owner):
        return [i for i, o in zip(program.main, program.owners, strict=True) if o == owner]

    def test_a_map_stays_and_the_other_is_loaded_where_the_sum_goes(self):
        """6 channels are two words of four; 40 words a map, and 128 there are."""
        program = self.program(machine(4, 4, 0.5, 8, 1))
        assert [i.op.name for i in self.told(program, "big")] == ["LOADA", *["LOADQ", "CONV", "STORE"] * 2]
        load, quant, first, _, second = self.told(program, "sum")
        # the convolution reads from 0 on and writes the end; its result stays there, and the input comes to 0 again
        assert (load.op, load["addr"], load["ext"], load["count"]) == (Op.LOADA, 0, program.maps[-1].beat, 40)
        assert quant.op == Op.LOADQ
        for at, pool in ((0, first), (20, second)):
            assert (pool["sum"], pool["relu"], pool["nfx"], pool["nfy"], pool["dx"], pool["dy"]) == (1, 1, 1, 2, 1, 0)
            assert (pool["addr"], pool["to"], pool["tap_row"]) == (88 + at, at, -88)
            assert (pool["nx"], pool["ny"], pool["row_step"], pool["width"], pool["height"]) == (4, 5, 4, 4, 5)
        _, pool, *_, save = self.told(program, "mean")
        assert (pool["addr"], pool["to"], pool["ix0"], pool["iy0"]) == (-4, 128 - 2 * 9, 0, -1)
        assert (pool["sx"], pool["sy"], pool["row_step"], pool["tap_row"]) == (1, 2, 8, 4)
        assert (pool["nx"], pool["ny"], pool["nfx"], pool["nfy"]) == (3, 3, 2, 3)
        assert (save.op, save["count"]) == (Op.SAVE, 18)

    def test_tall_arrays_take_a_bank_of_a_word_in_turn(self):
        program = self.program(machine(8, 2, 1, 8, 1, dataflow="os"))
        pools = [i for i in self.told(program, "mean") if i.op == Op.POOL]
        assert [pool["bank"] for pool in pools] == [0, 1, 2]
        assert len({(pool["addr"], pool["to"]) for pool in pools}) == 1
        assert [i.op for i in self.told(program, "mean")][:2] == [Op.TILE, Op.POOL]

    def test_a_map_that_others_read_is_saved_and_still_found(self):
        """The second convolution finds on chip what it reads; the sum loads it."""
        rng = np.random.default_rng(0)
        layers = [replace(layer_of(4, 4, (1, 1)), name=name) for name in ("one", "two", "three")]
        layers.append(random_plain(rng, "sum", "add", 4, (1, 1), 8, reads=("three", "one")))
        program = lower(network_of((4, 3, 3), *layers), machine(4, 4, 1, 8, 1))
        assert sorted(program.maps) == [-1, 0, 3]
        moves = [
            (o, i.op.name) for i, o in zip(program.main, program.owners, strict=True) if i.op in (Op.LOADA, Op.SAVE)
        ]
        assert moves == [("one", "LOADA"), ("one", "SAVE"), ("sum", "LOADA"), ("sum", "SAVE")]

    def test_what_runs_in_the_lanes_needs_no_sums_and_no_weights_but_its_requantiser(self):
        """Seven rows of parameters for a tile, whatever the window; and memory for one line of accumulators."""
        a = machine(4, 4, 0.5, 0.5, 0.1)
        pool = random_plain(np.random.default_rng(0), "mean", "avg_pool2d", 8, (4, 4), 8)
        program = lower(network_of((8, 7, 4), pool, replace(layer_of(2, 8, (1, 1)), name="last")), a)
        assert self.told(program, "mean")[1]["count"] == a.quant_rows
        assert evaluate(program.network, a).latency_cycle == program.cycles

    def test_a_window_too_large_for_an_instruction_is_named(self):
        pool = random_plain(np.random.default_rng(0), "mean", "avg_pool2d", 1, (65, 1), 8)
        last = replace(layer_of(1, 1, (1, 1)), name="last")
        with pytest.raises(CapacityError, match="nfy of POOL lies between 1 and 64, but got 65"):
            lower(network_of((1, 65, 1), pool, last), machine(2, 2, 16, 16, 16))


class TestRefusals:
    def test_another_precision(self):
        network = network_of((3, 5, 5), layer_of(4, 3, (3, 3)))
        with pytest.raises(InvalidInputError, match=r"got int8 and int4; quantise with bits=4 or choose weight_bits=8"):
            lower(network, MACHINES["4x4 int4"])

    @pytest.mark.parametrize(
        ("shape", "k", "f", "settings", "told"),
        [
            ((1, 2, 2048), 1, (1, 1), {}, "a map's sides are below 2048, but 'big' reads 2x2048"),
            ((1, 40, 40), 1, (1, 1), {"stride": (16, 1)}, "sy of CONV lies between 0 and 15, but got 16"),
            ((1, 70, 3), 1, (65, 1), {}, "nfy of CONV lies between 1 and 64, but got 65"),
            ((3, 20, 20), 1, (2, 2), {"dilation": (1, 16)}, "dx of CONV lies between 0 and 15, but got 16"),
            ((1, 20, 20), 1, (1, 1), {"pool": 17}, "pool of STORE lies between 1 and 16, but got 17"),
        ],
    )
    def test_a_layer_too_large_for_an_instruction_names_the_field(self, shape, k, f, settings, told):
        network = network_of(shape, layer_of(k, shape[0], f, **settings))
        with pytest.raises(CapacityError, match=told):
            lower(network, machine(2, 2, 16, 16, 16))

    @pytest.mark.parametrize("memory", ["activation", "weight", "accumulator", "instruction"])
    def test_a_memory_too_small_is_named(self, memory):
        network = network_of((12, 9, 9), layer_of(40, 12, (3, 3)))
        roomy = machine(4, 4, 16, 64, 16)
        lower(network, roomy)
        small = replace(roomy, **{f"{memory}_kib": {"accumulator": 0.05}.get(memory, 0.2)})
        with pytest.raises(CapacityError, match=f"the {memory} memory holds.*{memory}_kib"):
            lower(network, small)
