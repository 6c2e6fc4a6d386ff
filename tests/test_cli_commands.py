"""The commands themselves, on the real rooms."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from command import one_line, run

from codesign_kernel import assembly, session
from codesign_kernel.accelerator import catalog
from codesign_kernel.cli import commands
from codesign_kernel.cosim import CosimReport
from codesign_kernel.cost import evaluate
from codesign_kernel.optimize import digits


class TestCommands:
    def test_profile(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The digits network by hand: 9*16*64 + 16*9*32*16 + 128*10 MAC; weights and biases of its three layers."""
        status, out, err = run(capsys, "profile", "digits", "--json")
        body = json.loads(out)
        assert (status, body["macs"]) == (0, 9216 + 73728 + 1280)
        assert body["parameters"] == (9 + 1) * 16 + (16 * 9 + 1) * 32 + (128 + 1) * 10
        assert body["uncosted"] == {}
        assert sum(layer["macs"] for layer in body["layers"]) == body["macs"]
        assert "profiling digits" in err
        status, out, _ = run(capsys, "profile", "digits")
        assert status == 0
        assert "84.2 kMAC" in out
        assert "conv2d" in out

    def test_fuse(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Two convolutions, 16 maps of 8x8 and 32 of 4x4: for each two maps are neither written nor read."""
        status, out, _ = run(capsys, "fuse", "cnn", "--bits", "16", "--json")
        body = json.loads(out)
        assert (status, body["operators_before"], body["layers_after"]) == (0, 8, 3)
        assert body["traffic_saved_bytes"] == 2 * 4 * (16 * 64 + 32 * 16)
        assert body["traffic_before_bytes"] - body["traffic_saved_bytes"] == body["traffic_after_bytes"]
        assert run(capsys, "fuse", "digits", "--bits", "16", "--json")[1] == out
        status, out, _ = run(capsys, "fuse", "resnet")
        assert status == 0
        assert "folded into block2.skip.0" in out
        assert "22 operators become 10 layers" in out

    def test_a_file_is_a_network(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "small.pt2"
        torch.export.save(torch.export.export(torch.nn.Linear(6, 4), (torch.zeros(1, 6),)), file)
        status, out, _ = run(capsys, "profile", str(file), "--json")
        assert (status, json.loads(out)["macs"]) == (0, 24)

    @pytest.mark.parametrize("machine", ["mcu_class", "generator_4x8"])
    def test_evaluate(self, machine: str, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = run(capsys, "evaluate", "digits", "--machine", machine, "--json")
        body = json.loads(out)
        cost = evaluate(commands._profile("digits", lambda *_: None), catalog(machine))
        assert (status, body["latency_cycle"], body["energy_pj"]) == (0, cost.latency_cycle, cost.energy_pj)
        assert [layer["latency_cycle"] for layer in body["layers"]] == [layer.latency_cycle for layer in cost.layers]

    def test_evaluate_tells_the_mappings(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = run(
            capsys, "evaluate", "digits", "--machine", "mcu_class", "--mappings", "--mapping", "k=16", "--no-fusion"
        )
        assert status == 0
        assert "for k in 2 tiles of 16 output channels (of 32)" in out
        assert "16 rows <- positions, 16 columns <- output channels" in out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["digits", "--machine", "tpu_v9"], "the catalogue has tpu_v1, "),
            (["digits", "--machine", "nvdla_64"], "nvdla_64 has a model of its own"),
            (["digits", "--machine", "generator_4x8", "--mapping", "k=4"], "the generated accelerator has one mapping"),
        ],
    )
    def test_evaluate_refuses(self, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, err = run(capsys, "evaluate", *arguments)
        assert (status, out) == (2, "")
        assert words in err

    def test_sweep(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        import pandas as pd

        path = tmp_path / "designs.csv"
        status, out, _ = run(
            capsys, "sweep", "lenet5", "--objectives", "latency_ms,area_mm2", "--out", str(path), "--json"
        )
        body = json.loads(out)
        frame = pd.read_csv(path)
        assert status == 0
        assert len(frame) == body["designs"]
        assert frame["pareto"].sum() == len(body["front"])
        assert body["knee"] in body["front"]
        # along the front of two objectives, less of one is more of the other
        assert [row["latency_ms"] for row in body["front"]] == sorted(row["latency_ms"] for row in body["front"])
        areas = [row["area_mm2"] for row in body["front"]]
        assert areas == sorted(areas, reverse=True)
        assert frame["latency_ms"].min() == body["front"][0]["latency_ms"]

    def test_rtl(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        small = {"rows": 2, "cols": 2, "weight_kib": 1, "activation_kib": 1, "accumulator_kib": 1, "instruction_kib": 1}
        design = tmp_path / "design.json"
        design.write_text(json.dumps(small))
        folder = tmp_path / "deep" / "rtl"
        status, out, _ = run(capsys, "rtl", "--design", str(design), "--out", str(folder), "--json")
        body = json.loads(out)
        assert status == 0
        assert sorted(str(path) for path in folder.iterdir()) == sorted(body["files"])
        assert {Path(name).suffix for name in body["files"]} == {".v", ".vhd"}
        assert any(f"module {body['top']}" in Path(name).read_text() for name in body["files"])
        assert (body["design"]["rows"], body["design"]["cols"]) == (2, 2)

    def test_rtl_with_a_test_bench(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(digits, "train_digits", partial(digits.train_digits, epochs=1))
        size = ("--rows", "4", "--cols", "4")
        status, out, _ = run(capsys, "rtl", *size, "--out", str(tmp_path), "--vectors", "2", "--json")
        assert status == 0
        assert sorted(str(path) for path in tmp_path.rglob("*.*")) == sorted(
            name for name in json.loads(out)["files"] if "." in Path(name).name
        )
        assert "localparam VECTORS = 2;" in (tmp_path / "testbench" / "tb_codesign_core.v").read_text()

    @pytest.mark.slow
    def test_cosim(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(digits, "train_digits", partial(digits.train_digits, epochs=1))
        reports: list[CosimReport] = []
        real = session.cosimulate

        def kept(*arguments: Any, **options: Any) -> CosimReport:
            reports.append(real(*arguments, **options))
            return reports[0]

        monkeypatch.setattr(session, "cosimulate", kept)
        waves = ("--vcd", str(tmp_path / "w.vcd"), "--window", "5:8")
        status, out, _ = run(capsys, "cosim", "--images", "2", "--json", "--asm", str(tmp_path / "digits.s"), *waves)
        body = json.loads(out)
        assert (tmp_path / "w.vcd").read_text().rstrip().endswith("#18")  # the end of cycle 8
        lines = assembly.parse((tmp_path / "digits.s").read_text())
        assert sum(line.cycles for line in lines if line.layer != assembly.BOOT) == body["cycles_model"]
        assert status == 0
        assert body["passed"] is True
        assert (body["vectors"], body["mismatches"]) == (2, 0)
        assert body["cycles_rtl"] == body["cycles_model"] == body["cycles_program"]
        assert sum(layer["cycles"] for layer in body["causes"]["layers"]) == body["cycles_model"]

        wrong = dataclasses.replace(reports[0], cycles_model=reports[0].cycles_rtl + 1)
        monkeypatch.setattr(session, "cosimulate", lambda *arguments, **options: wrong)
        status, out, _ = run(capsys, "cosim")
        assert status == 1
        assert "RTL AND MODEL DIFFER" in out
        assert f"of its time: {wrong.causes}\n" in out

    def test_cosim_has_so_many_images(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, err = run(capsys, "cosim", "--images", "100000")
        assert (status, out) == (2, "")
        assert "there are 450 test inputs, but" in err
        assert one_line(err)

    @pytest.mark.slow
    def test_demo(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = run(capsys, "demo", "--out", str(tmp_path / "demo"), "--images", "4", "--json")
        assert (status, isinstance(json.loads(out), dict)) == (0, True)
        assert list((tmp_path / "demo").iterdir())
