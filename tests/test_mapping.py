"""Mapping: which operators run as one step, and how a step is cut, against loops over the rows and channels touched."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from cases import MACHINES, machine, random_layer
from loopnest import blocks_of, cut, input_rows, nests

from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.mapping import steps_of
from codesign_kernel.mapping.tiling import Tiling, block_range, tile
from codesign_kernel.mapping.tiling import input_rows as input_rows_of
from codesign_kernel.optimize import IntegerNetwork
from codesign_kernel.workload import Layer, Workload


def conv(name: str, k: int = 4, c: int = 3, side: int = 8, **rest) -> Layer:
    """A 3x3 convolution that keeps the size of its map."""
    return Layer(name, "conv2d", K=k, C=c, OY=side, OX=side, FY=3, FX=3, IY=side, IX=side, padding=(1, 1), **rest)


def after(name: str, op: str, k: int = 4, side: int = 8, window: int = 1, **rest) -> Layer:
    """An operator without MACs on a map of ``side``."""
    small = side // window
    size = {"K": k, "C": k, "OY": small, "OX": small, "IY": side, "IX": side, "FY": window, "FX": window}
    return Layer(name, op, **{**size, "stride": (window, window), **rest})


def chain(*layers: Layer) -> Workload:
    """Each layer reads the one before."""
    return Workload("chain", layers, tuple(pairwise(layer.name for layer in layers)))


def one(tiling: Tiling, name: str) -> int:
    """The only value of a field."""
    return int(np.broadcast_to(getattr(tiling, name), 1)[0])


def one_step(height, k, f, stride, padding, dilation, pool, c=1, width=3, groups=1):
    """(step, nest) of a network of one layer whose filter is ``f`` x 1; the settings are those of its rows."""
    layer = random_layer(
        np.random.default_rng(0), "layer", k, c // groups, (f, 1), 8, stride=(stride, 1), padding=(padding, 0),
        dilation=(dilation, 1), pool=pool, groups=groups,
    )  # fmt: skip
    network = IntegerNetwork("one", (c, height, width), 1.0, 8, (layer,))
    return steps_of(network.workload)[0][0], nests(network)[0]


class TestSteps:
    def test_relu_and_pooling_run_with_the_convolution_before_them(self):
        steps, left = steps_of(
            chain(
                conv("a"),
                after("a.relu", "relu"),
                after("a.pool", "max_pool2d", window=2),
                Layer("fc", "linear", K=10, C=64),
            )
        )
        assert [step.layer.name for step in steps] == ["a", "fc"]
        assert not left
        first, second = steps
        assert (first.pool, first.out_height, first.out_width) == (2, 4, 4)
        assert first.to_next
        assert second.from_previous
        # the flattened map is read where it lies: a filter of 4 x 4 over 4 channels
        assert (second.channels_in, second.height, second.filter_height, second.filter_width) == (4, 4, 4, 4)
        assert second.taps == 16

    @pytest.mark.parametrize("relu_last", [False, True])
    def test_pooling_is_fused_on_either_side_of_relu(self, relu_last):
        tail = [after("pool", "max_pool2d", window=2), after("relu", "relu", side=4)]
        if not relu_last:
            tail = [after("relu", "relu"), after("pool", "max_pool2d", window=2)]
        (step,), left = steps_of(chain(conv("a"), *tail))
        assert step.pool == 2
        assert not left

    @pytest.mark.parametrize(
        "odd",
        [
            after("odd", "max_pool2d", window=2, dilation=(2, 2)),
            replace(after("odd", "max_pool2d", window=3), OY=3, OX=3),  # ceil mode
            after("odd", "avg_pool2d", window=2, padding=(2, 0), OY=6),  # a window of padding alone
            Layer("odd", "mean", K=1, C=4, OY=8, OX=8, IY=8, IX=8),  # over channels
            Layer("odd", "adaptive_avg_pool2d", K=4, C=4, OY=3, OX=3, IY=8, IX=8, FY=4, FX=4, stride=(2, 2)),
            after("odd", "avg_pool2d", k=3, window=2),  # of something else than the map before it
            after("odd", "gelu"),
        ],
    )
    def test_what_has_no_place_on_the_datapath_is_counted(self, odd):
        (step,), left = steps_of(chain(conv("a"), odd))
        assert step.pool == 1
        assert left == {odd.op: 1}

    @pytest.mark.parametrize(
        "pool",
        [
            after("pool", "max_pool2d", window=2, stride=(1, 1), OY=7, OX=7),
            after("pool", "max_pool2d", window=3, stride=(2, 2), padding=(1, 1), OY=4, OX=4),
            Layer("pool", "max_pool2d", K=4, C=4, OY=4, OX=8, IY=8, IX=8, FY=2, FX=1, stride=(2, 1)),
            after("pool", "avg_pool2d", window=2),
            after("pool", "adaptive_avg_pool2d", window=4),
            Layer("pool", "mean", K=4, C=4, IY=8, IX=8, FY=8, FX=8),
        ],
    )
    def test_pooling_that_no_convolution_takes_along_is_a_step(self, pool):
        (first, step), left = steps_of(chain(conv("a"), pool, after("relu", "relu6", side=pool.OY, OX=pool.OX)))
        assert not left
        assert (first.pool, first.to_next, step.from_previous) == (1, True, True)
        assert (step.layer, step.on_array, step.reads, step.inputs) == (pool, False, (0,), 1)
        assert (step.channels_in, step.channels_out, step.height, step.width) == (4, 4, 8, 8)
        assert (step.out_height, step.out_width, step.taps) == (pool.OY, pool.OX, pool.FY * pool.FX)
        assert (step.stride, step.padding) == (pool.stride, pool.padding)

    def test_only_the_first_pooling_is_fused(self):
        pools = (after("p", "max_pool2d", window=2), after("q", "max_pool2d", side=4, window=2))
        (step, second), left = steps_of(chain(conv("a"), *pools))
        assert (step.pool, second.layer.name) == (2, "q")
        assert not left

    def test_pooling_of_the_input_is_a_step(self):
        (pool, step), left = steps_of(chain(after("p", "max_pool2d", k=3, window=2), conv("a", side=4)))
        assert not left
        assert (pool.reads, pool.from_host, step.from_previous, step.from_host) == ((-1,), True, True, False)

    @pytest.mark.parametrize("clip", ["relu", "relu6"])
    def test_clipping_runs_with_every_step(self, clip):
        """Behind a convolution, its pooling, and a sum."""
        layers = (conv("a"), after("b", clip), conv("c", c=4), after("s", "add"), after("d", clip), conv("e", c=4))
        edges = (("a", "b"), ("b", "c"), ("b", "s"), ("c", "s"), ("s", "d"), ("d", "e"))
        steps, left = steps_of(Workload("w", layers, edges))
        assert not left
        assert [step.layer.name for step in steps] == ["a", "c", "s", "e"]
        assert [step.reads for step in steps] == [(-1,), (0,), (0, 1), (2,)]

    def test_operators_that_the_profiler_could_not_name_stay_counted(self):
        work = Workload("w", (conv("a"),), (), {"mystery": 3})
        assert steps_of(work)[1] == {"mystery": 3}

    def test_a_second_reader_has_the_map_stored(self):
        """A residual: b reads a alone, but the sum behind it needs a once more."""
        layers = (conv("a"), conv("b", c=4), after("add", "add"), conv("c", c=4))
        edges = (("a", "b"), ("a", "add"), ("b", "add"), ("add", "c"))
        (a, b, add, c), left = steps_of(Workload("residual", layers, edges))
        assert not left
        assert b.from_previous
        assert not a.to_next
        assert (add.reads, add.from_previous, b.to_next) == ((0, 1), True, True)
        assert (c.from_previous, add.to_next) == (True, True)

    def test_a_sum_with_the_input_has_its_shape(self):
        """One edge says that a number is added, or the input: that one where it has the shape."""
        same = Workload("w", (conv("a", k=3), after("add", "add", k=3)), (("a", "add"),))
        (a, add), left = steps_of(same)
        assert (add.reads, add.from_previous, a.to_next, a.from_host, left) == ((0, -1), True, True, False, {})
        other = Workload("w", (conv("a", k=4), after("add", "add", k=4)), (("a", "add"),))
        (a,), left = steps_of(other)
        assert (left, a.from_host) == ({"add": 1}, True)

    def test_sums_of_other_shapes_and_of_what_is_not_costed_are_counted(self):
        odd = (conv("a"), conv("b", k=1), after("gelu", "gelu"), after("s", "add"), after("t", "add"))
        edges = (("a", "s"), ("b", "s"), ("a", "gelu"), ("gelu", "t"), ("a", "t"))
        steps, left = steps_of(Workload("w", odd, edges))
        assert len(steps) == 2
        assert left == {"gelu": 1, "add": 2}

    def test_items_of_a_batch_are_rows_of_fully_connected_layers(self):
        layers = (conv("a", side=4), Layer("f", "linear", K=10, C=64), Layer("g", "linear", K=10, C=10))
        sums = (*layers, after("s", "add", k=10, side=1))
        edges = (("a", "f"), ("f", "g"), ("f", "s"), ("g", "s"))
        a, f, g, s = steps_of(Workload("w", sums, edges).with_batch(3))[0]
        assert [step.repeat for step in (a, f, g, s)] == [3, 1, 1, 1]
        assert (f.images, f.height, f.filter_height, f.stride, f.out_height) == (3, 12, 4, (4, 1), 3)
        assert (f.from_previous, a.to_next) == (False, False)  # the maps of all items first
        assert (g.images, g.height, g.width, g.from_previous, g.out_height) == (1, 3, 1, True, 3)
        assert (s.height, s.width, s.out_height, s.reads, s.from_previous) == (3, 1, 3, (1, 2), True)

    def test_a_result_that_is_read_before_relu_too_is_stored_as_it_is(self):
        layers = (conv("a"), after("relu", "relu"), conv("b", c=4), conv("c", c=4))
        (a, b, c), left = steps_of(Workload("w", layers, (("a", "relu"), ("relu", "b"), ("a", "c"))))
        assert left == {"relu": 1}
        assert (a.to_next, b.from_previous, c.from_previous) == (False, False, False)

    def test_a_branch_is_loaded_again(self):
        layers = (conv("a"), conv("b", c=4), conv("c", c=4))
        (a, b, c), _ = steps_of(Workload("fork", layers, (("a", "b"), ("a", "c"))))
        assert (a.to_next, b.from_previous, b.to_next, c.from_previous) == (False, True, False, False)

    def test_matrix_products_run_row_by_row_once_for_each_head(self):
        work = Workload("attention", (Layer("qk", "matmul", B=2, G=3, K=7, C=5, OY=11, IY=11),))
        (step,), _ = steps_of(work)
        assert (step.repeat, step.groups, step.streamed) == (6, 1, True)
        assert (step.height, step.width, step.out_height, step.out_width) == (11, 1, 11, 1)

    def test_nothing_to_do_is_refused(self):
        with pytest.raises(InvalidInputError, match=r"at least one operator that does MACs, but 'chain' has none"):
            steps_of(chain(after("r", "relu")))

    def test_a_window_larger_than_its_map_is_refused(self):
        odd = Layer("p", "max_pool2d", K=4, C=4, IY=9, IX=9, FY=9, FX=9, stride=(9, 9))
        with pytest.raises(InvalidInputError, match=r"'a' pools 9x9 over 8x8"):
            steps_of(chain(conv("a"), odd))

    def test_padding_as_large_as_the_filter_is_refused(self):
        wide = Layer("a", "conv2d", K=2, C=2, OY=8, OX=4, FY=3, FX=3, IY=4, IX=4, padding=(3, 1))
        with pytest.raises(InvalidInputError, match=r"'a' pads \(3, 1\) around 3x3"):
            steps_of(chain(wide))


class TestTiling:
    def test_loaded_rows_are_those_under_the_windows(self):
        """Every stride, padding, reach and pool, for every size of the chunks: against sets of rows."""
        cases = 0
        seen = set()
        for stride, f, dilation, pool in product((1, 2, 3), (1, 2, 3, 5), (1, 2), (1, 2, 3)):
            for padding, height in product(range((f - 1) * dilation + 1), (7, 12)):
                convolved = (height + 2 * padding - (f - 1) * dilation - 1) // stride + 1
                if convolved < pool:
                    continue
                step, nest = one_step(height, 2, f, stride, padding, dilation, pool)
                for depth in (12, 18, 24, 30, 39, 51):
                    tiling = tile(step, Machines.of([machine(1, 1, depth / 1024, 1, 1)]))
                    rows, chunks = one(tiling, "chunk_rows"), one(tiling, "chunks")
                    pieces = cut(nest.oh, rows)
                    assert chunks == len(pieces)
                    if one(tiling, "whole"):
                        assert one(tiling, "loaded_rows") == height
                        continue
                    loaded = [input_rows(nest, piece) for piece in pieces]
                    assert one(tiling, "loaded_rows") == sum(loaded), (step, rows)
                    for piece, deep in zip(pieces, loaded, strict=True):
                        low, high = input_rows_of(step, piece.start, piece.stop)
                        assert high - low == deep
                    cases += 1
                    seen.add((stride, padding, f, dilation, pool))
        assert cases > 1000
        assert len(seen) > 150

    def test_pieces_fit_the_memories_and_no_larger_ones_would(self):
        rng = np.random.default_rng(1)
        cuts = passes = short = 0
        for _ in range(400):
            stride, f, pool, c, k = (int(v) for v in rng.integers(1, (4, 4, 4, 20, 20)))
            height = int(rng.integers(f + stride * pool, 40))
            step, _ = one_step(height, k, f, stride, int(rng.integers(0, f)), 1, pool, c, int(rng.integers(3, 9)))
            a = MACHINES[str(rng.choice(["4x4", "2x8", "8x4", "3x6"]))]
            tiling = tile(step, Machines.of([a]))
            acts, sums = a.memory("activation").depth, a.memory("accumulator").depth
            if one(tiling, "activation_need") > acts or one(tiling, "accumulator_need") > sums:
                continue

            def words(rows, step=step, tiling=tiling, inner=True):
                deep = (rows * step.pool - 1) * step.stride[0] + step.reach[0] if inner else step.height
                read, stored = one(tiling, "in_groups") * step.width * deep, one(tiling, "out_groups") * step.out_width
                return read + stored * rows

            rows, lines = one(tiling, "chunk_rows"), one(tiling, "pass_rows")
            if one(tiling, "whole"):
                assert words(step.out_height, inner=False) <= acts
            else:
                assert words(rows) <= acts
                assert rows == step.out_height or words(rows + 1) > acts
                cuts += 1
            line = step.out_width * step.pool**2
            assert lines * line <= sums < (lines + 1) * line
            want = Counter(len(lot) for piece in cut(step.out_height, rows) for lot in cut(len(piece), lines))
            assert one(tiling, "passes") == want.total()
            sizes: Counter[int] = Counter()
            for size, number in tiling.pass_sizes:
                sizes[int(np.broadcast_to(size, 1)[0])] += int(np.broadcast_to(number, 1)[0])
            assert +sizes == want
            passes += want.total() > one(tiling, "chunks")
            short += len(want) == 3  # full ones, and two that end chunks
        assert cuts > 50
        assert passes > 20
        assert short > 0

    def test_blocks_are_the_channels_that_a_tile_reads(self):
        straddling = 0
        for rows, cols, groups, per_in, per_out in product(
            (1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 3, 6), (1, 2, 3), (1, 4, 5)
        ):
            step, nest = one_step(4, groups * per_out, 2, 1, 0, 1, 1, groups * per_in, groups=groups)
            a = machine(rows, cols, 16, 64, 16)
            tiling = tile(step, Machines.of([a]))
            spans = [blocks_of(nest, outs, rows) for outs in cut(nest.k, cols)]
            assert [range(*block_range(step, o, rows, cols)) for o in range(len(spans))] == spans
            counts = [len(span) for span in spans]
            assert (one(tiling, "blocks"), one(tiling, "blocks_max")) == (sum(counts), max(counts))
            assert one(tiling, "tiles") == len(spans)
            assert one(tiling, "weight_need") == max(counts) * step.taps * rows + a.quant_rows
            straddling += groups > 1 and cols % per_out > 0
        assert straddling > 50

    def test_many_machines_at_once_are_the_same_one_by_one(self):
        steps = [one_step(11, 9, 3, 1, 1, 1, 2, 10)[0], one_step(11, 12, 3, 2, 1, 1, 1, 6, groups=3)[0]]
        for step in steps:
            together = tile(step, Machines.of(MACHINES.values()))
            for i, a in enumerate(MACHINES.values()):
                alone = tile(step, Machines.of([a]))
                for name in Tiling.__dataclass_fields__:
                    many, single = (
                        np.array(getattr(t, name)).reshape(-1, n) for t, n in ((together, len(MACHINES)), (alone, 1))
                    )
                    assert many[:, i].tolist() == single[:, 0].tolist(), name
