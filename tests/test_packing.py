"""Packing of first layers: what the host writes, when it pays, and that programs and costs choose alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from cases import MACHINES, machine, random_inputs, random_layer, runnable
from emulator import Emulator

from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.cost import evaluate, evaluate_batch, first
from codesign_kernel.errors import CapacityError
from codesign_kernel.lower import lower, lowering
from codesign_kernel.mapping.packing import filters, packings, unfolded
from codesign_kernel.mapping.steps import steps_of
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.session.cases import random_plain
from codesign_kernel.workload import Layer, Workload


def network_of(shape: tuple[int, int, int], *layers, bits: int = 8) -> IntegerNetwork:
    return IntegerNetwork("n", shape, 1.0, bits, layers)


def conv_of(k: int, c: int, f: tuple[int, int], bits: int = 8, **settings):
    return random_layer(np.random.default_rng(0), "conv", k, c, f, bits, **settings)


@pytest.fixture
def only(monkeypatch):
    """Let nothing but one of the ways be chosen: 0 is the input as it is."""

    def choose(number: int | None) -> None:
        for module in (first, lowering):
            ways = packings if number is None else lambda step: (packings(step)[number],)
            monkeypatch.setattr(module, "packings", ways)

    return choose


def convolved(maps: np.ndarray, weight: np.ndarray, stride, padding, dilation) -> np.ndarray:
    """[N, C, H, W] and [K, C, FY, FX] -> [N, K, OY, OX], position by position."""
    (py, px), (sy, sx), (dy, dx) = padding, stride, dilation
    padded = np.pad(maps, ((0, 0), (0, 0), (py, py), (px, px))).astype(np.int64)
    fy, fx = weight.shape[2:]
    oy = (padded.shape[2] - (fy - 1) * dy - 1) // sy + 1
    ox = (padded.shape[3] - (fx - 1) * dx - 1) // sx + 1
    found = np.zeros((len(maps), len(weight), oy, ox), np.int64)
    for y, x, i, j in product(range(oy), range(ox), range(fy), range(fx)):
        found[:, :, y, x] += padded[:, :, y * sy + i * dy, x * sx + j * dx] @ weight[:, :, i, j].T.astype(np.int64)
    return found


class TestWays:
    def test_a_packed_convolution_is_the_same_convolution(self):
        """Any stride, padding, dilation and pool: the filter of fewer taps over the map that the host writes."""
        rng = np.random.default_rng(0)
        seen: Counter[int] = Counter()
        for _ in range(200):
            f, stride, dilation = (tuple(int(v) for v in rng.integers(1, 4, 2)) for _ in range(3))
            reach = [(f[i] - 1) * dilation[i] + 1 for i in (0, 1)]
            padding = tuple(int(rng.integers(0, r)) for r in reach)
            c, pool = int(rng.integers(1, 4)), int(rng.integers(1, 3))
            side = [int(rng.integers(stride[i] * pool + r, 16)) for i, r in enumerate(reach)]
            layer = conv_of(2, c, f, stride=stride, padding=padding, dilation=dilation, pool=pool)
            network = network_of((c, *side), layer)
            (plain,), _ = steps_of(network.workload)
            x = random_inputs(rng, network, 2)
            want = convolved(x, layer.weight, stride, padding, dilation)
            want = want[:, :, : plain.out_height * pool, : plain.out_width * pool]
            for way in packings(plain)[1:]:
                maps = unfolded(x, plain, way)
                assert maps.shape == (2, way.channels_in, way.height, way.width)
                assert way.taps * way.packed[0] * way.packed[1] == plain.taps
                assert way.filter_width == 1
                weight = filters(layer.weight, way)
                got = convolved(maps, weight, way.stride, way.padding, way.dilation)
                assert np.array_equal(got[:, :, : want.shape[2]], want)
                seen[way.packed[0]] += 1
        assert min(seen[1], seen[2], seen[3]) > 20

    def test_words_by_hand(self):
        """A row of four under a filter of three that steps two, one zero on each side: places 0 and 2."""
        network = network_of((1, 2, 4), conv_of(1, 1, (1, 3), stride=(1, 2), padding=(0, 1)))
        (plain,), _ = steps_of(network.workload)
        (_, way) = packings(plain)
        maps = np.array([[[[1, 2, 3, 4], [5, 6, 7, 8]]]], dtype=np.int8)
        places = [[[0, 1, 2], [2, 3, 4]], [[0, 5, 6], [6, 7, 8]]]
        assert unfolded(maps, plain, way)[0].transpose(1, 2, 0).tolist() == places

    def test_what_others_read_too_stays_as_it_is(self):
        layer = conv_of(3, 3, (3, 3), padding=(1, 1))
        summed = random_plain(np.random.default_rng(0), "s", "add", 3, (1, 1), 8, reads=("input", "conv"))
        grouped = conv_of(3, 1, (3, 3), groups=3)
        pooled = random_plain(np.random.default_rng(0), "p", "avg_pool2d", 3, (2, 2), 8)
        for layers, ways in [((layer,), 3), ((layer, summed), 1), ((grouped,), 1), ((pooled, layer), 1)]:
            steps, _ = steps_of(network_of((3, 6, 6), *layers).workload)
            assert len(packings(steps[0])) == ways
        conv = Layer("c", "conv2d", K=3, C=3, OY=4, OX=4, FY=3, FX=3, IY=6, IX=6)
        before = Layer("g", "gelu", K=3, C=3, OY=6, OX=6, IY=6, IX=6)
        for edges in ([("g", "c")], []):  # behind what is not costed, or beside it
            steps, _ = steps_of(Workload("w", (before, conv), edges))
            assert len(packings(steps[0])) == 1
        assert len(packings(steps_of(Workload("w", (conv,)))[0][0])) == 3

    def test_no_more_is_packed_than_an_array_has_rows(self):
        wide = conv_of(2, 40, (3, 3))
        steps, _ = steps_of(network_of((40, 5, 5), wide).workload)
        assert [way.packed for way in packings(steps[0])] == [(1, 1), (1, 3)]  # 360 channels are too many
        long = conv_of(2, 1, (1, 3), padding=(0, 2))
        steps, _ = steps_of(network_of((1, 2, 2047), long).workload)
        assert len(packings(steps[0])) == 1  # 2,049 places are more than a map's side can have


class TestChoice:
    def test_it_is_never_slower_than_the_input_as_it_is(self, only):
        """Over a grid of layers, for machines of both dataflows and all memories; and often faster."""
        machines = Machines.of(
            machine(rows, cols, kib, 64, 1, weight_bits=bits, dataflow=dataflow, bandwidth_gb_s=bandwidth)
            for rows, cols in [(2, 2), (4, 8), (8, 4), (9, 9), (16, 16), (32, 32)]
            for kib, bits, dataflow, bandwidth in product((0.5, 8), (8, 16), ("ws", "os"), (0.2, 12.8))
        )
        faster, slow_if_packed, taken = 0, 0, Counter()
        for c, f, stride, side in product((1, 3), (3, 5), (1, 2), (9, 20)):
            for padding in (0, f // 2, f - 1):
                layer = conv_of(6, c, (f, f), stride=(stride, stride), padding=(padding, padding), relu=True)
                work = network_of((c, side, side), layer).workload
                only(None)
                best = evaluate_batch(work, machines)
                only(0)
                plain = evaluate_batch(work, machines)
                runs = plain.reason == 0
                assert not best.reason[runs].any()
                assert (best.latency_cycle <= plain.latency_cycle)[runs].all()
                faster += int((best.latency_cycle < plain.latency_cycle)[runs].sum())
                only(1)
                packed = evaluate_batch(work, machines)
                fits = runs & (c * f <= machines.rows) & (packed.reason == 0)
                slow_if_packed += int((packed.latency_cycle > plain.latency_cycle)[fits].sum())
                taken.update(np.broadcast_to(best.packed, machines.shape)[runs].tolist())
        assert faster > 500
        assert slow_if_packed > 10  # where the law had to say no
        assert {1, 3, 9, 5, 25} == taken.keys()

    def test_one_machine_is_as_many(self):
        layers = (conv_of(6, 2, (3, 3), padding=(1, 1), pool=2), random_layer(
            np.random.default_rng(1), "fc", 10, 6 * 5 * 5, (1, 1), 8, op="linear", flatten=True
        ))  # fmt: skip
        network = network_of((2, 10, 11), *layers)
        chosen = [a for a in MACHINES.values() if a.weight_bits == 8]
        together = evaluate_batch(network.workload, Machines.of(chosen))
        packed = np.broadcast_to(together.packed, len(chosen))
        assert len(set(packed.tolist())) > 1
        for i, a in enumerate(chosen):
            alone = evaluate_batch(network.workload, Machines.of([a]))
            assert int(np.broadcast_to(alone.packed, 1)[0]) == packed[i]
            for name in ("latency_cycle", "boot_cycle", "resident", "instructions", "reason"):
                assert getattr(alone, name)[0] == getattr(together, name)[i], (name, str(a))
            assert alone.energy_pj["nominal"][0] == pytest.approx(together.energy_pj["nominal"][i], rel=1e-12)

    def test_the_program_takes_the_same_way(self):
        """Random first layers on random machines: equal cycles, and as many positions packed."""
        met: Counter[int] = Counter()
        for i, a in enumerate(MACHINES.values()):
            for program in runnable(a, 700 + i, 6):
                batch = evaluate_batch(program.network.workload, Machines.of([a]))
                packed = program.ways[1].packed
                assert int(np.broadcast_to(batch.packed, 1)[0]) == packed[0] * packed[1]
                assert batch.latency_cycle[0] == program.cycles
                met[packed[0] * packed[1] > 1] += 1
        assert met[True] > 10

    def test_it_can_make_a_network_fit(self):
        """Weights of fewer taps need less room."""
        network = network_of((1, 8, 8), conv_of(4, 1, (5, 5)))
        small = machine(32, 4, 4, 0.3, 1)
        assert lower(network, small).ways[1].packed == (5, 5)
        with pytest.raises(CapacityError, match="weight memory"):
            lower(network_of((1, 8, 8), conv_of(4, 1, (5, 5), groups=1), bits=8), replace(small, rows=4))


class TestPrograms:
    @pytest.mark.parametrize(("dataflow", "bits"), list(product(("ws", "os"), (4, 8, 16))))
    def test_every_way_gives_the_same_bits_and_its_own_cycles(self, only, dataflow, bits):
        """Each way forced, whether it is the fastest or not, on square and oblong arrays, whole and in chunks."""
        rng = np.random.default_rng(bits)
        cycles, chunked = set(), 0
        for rows, cols, kib in [(8, 4, 2), (4, 8, 2), (12, 12, 0.4), (18, 6, 4)]:
            for _ in range(3):
                f, stride, dilation = (tuple(int(v) for v in rng.integers(1, 4, 2)) for _ in range(3))
                c = 1 if rows < 8 else int(rng.integers(1, 3))
                reach = [(f[i] - 1) * dilation[i] + 1 for i in (0, 1)]
                padding = tuple(int(rng.integers(0, r)) for r in reach)
                layer = conv_of(
                    5, c, f, bits, stride=stride, padding=padding, dilation=dilation, pool=int(rng.integers(1, 3))
                )
                network = network_of((c, 15, 14), layer, bits=bits)
                a = machine(rows, cols, kib, 16, 2, weight_bits=bits, dataflow=dataflow)
                plain = steps_of(network.workload)[0][0]
                x = random_inputs(rng, network, 2)
                for number, way in enumerate(packings(plain)):
                    only(number)
                    if way.channels_in > rows and number:
                        continue
                    try:
                        program = lower(network, a)
                    except CapacityError:
                        continue
                    if program.ways[1] == plain != way:
                        continue  # its pieces do not fit the activation memory
                    assert program.ways == (plain, way)
                    assert evaluate(network, a).latency_cycle == program.cycles
                    emulator = Emulator.of(program)
                    if program.boot:
                        emulator.run(0)
                    for image, want in zip(x, network.predict(x), strict=True):
                        assert np.array_equal(emulator.infer(program, image), want)
                    cycles.add((number, program.cycles))
                    chunked += len(program.main) > 2 + 4 * (5 // cols + 1)
        assert {number for number, _ in cycles} == {0, 1, 2}
        assert chunked > 0
