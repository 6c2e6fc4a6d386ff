"""More of a machine is rarely slower, and where it is, the law says why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases import machine
from test_cost import CONV, sample

from codesign_kernel.accelerator.columns import Machines
from codesign_kernel.cost import evaluate, evaluate_batch
from codesign_kernel.workload import Workload


class TestMonotony:
    @pytest.mark.slow
    @pytest.mark.parametrize("field", ["bandwidth_gb_s", "weight_kib", "accumulator_kib"])
    def test_more_is_never_slower(self, field):
        """On this sample; the test below has a machine that more accumulators make slower."""
        faster = 0
        for a, program in sample(8, 300):
            base = evaluate(program.network, a).latency_cycle
            for factor in (1.5, 2, 8):
                cycles = evaluate(program.network, replace(a, **{field: factor * getattr(a, field)})).latency_cycle
                assert cycles <= base, (a, program.network)
                faster += cycles < base
        assert faster > 20

    def test_a_larger_accumulator_memory_is_slower_where_it_leaves_a_short_pass(self):
        """Nine lines of 4 positions in passes of 5 and 4 lines, or of 8 and 1: that one waits for the weights."""
        layer = replace(CONV, K=1, C=8, OY=9, OX=4, IY=9, IX=4)
        small, large = (
            evaluate(Workload("w", (layer,)), machine(8, 1, 1, 1, words / 256)).latency_cycle for words in (20, 32)
        )
        assert large - small == 8 * ((32 + 8) - (20 + 16))

    @pytest.mark.slow
    def test_a_larger_activation_memory_is_slower_only_where_its_cuts_fall_worse(self):
        """Longer chunks can hold one pass more than shorter ones that the accumulators just take; and they, like a map
        that stays whole, are loaded with the rows that windows step over."""
        slower = faster = 0
        for a, program in sample(16, 400):
            larger = replace(a, activation_kib=2 * a.activation_kib)
            before, after = (evaluate(program.network, m) for m in (a, larger))
            faster += after.latency_cycle < before.latency_cycle
            if after.latency_cycle <= before.latency_cycle:
                continue
            slower += 1
            batch = evaluate_batch(program.network.workload, Machines.of([a, larger]))
            more_passes = any(int(t.passes[1]) > int(t.passes[0]) for t in batch.tilings)
            more_rows = any(t.loaded_rows[1] > t.loaded_rows[0] for t in batch.tilings)
            assert more_passes or more_rows
        assert faster > 60
        assert 0 < slower < 20
