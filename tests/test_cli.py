"""The `codesign` command: what it says, what it returns, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codesign_kernel import __version__, assembly, cli, session
from codesign_kernel.accelerator import Accelerator, catalog
from codesign_kernel.cli import commands, parser
from codesign_kernel.cli.output import Answer, plain, rows_text, table_text
from codesign_kernel.cli.parser import DESIGN_OPTIONS, build_parser
from codesign_kernel.cli.progress import Progress
from codesign_kernel.cosim import CosimReport
from codesign_kernel.cosim.simulators import SIMULATORS
from codesign_kernel.cost import evaluate
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize import digits

ROOT = Path(__file__).parent.parent


def codesign(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "codesign_kernel.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, **options)


def one_line(text: str) -> bool:
    return text.endswith("\n") and text.count("\n") == 1


class TestProcess:
    """Through the real command: exit status, stdout, stderr."""

    def test_version(self) -> None:
        done = codesign("--version")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"codesign {__version__}\n", "")

    def test_help_names_every_command(self) -> None:
        done = codesign("--help")
        assert done.returncode == 0
        for name in commands.COMMANDS:
            assert f"\n    {name} " in done.stdout

    @pytest.mark.parametrize("name", commands.COMMANDS)
    def test_each_command_has_help(self, name: str) -> None:
        done = codesign(name, "--help")
        assert done.returncode == 0
        assert "--json" in done.stdout

    def test_doctor_in_json(self) -> None:
        done = codesign("doctor", "--json")
        body = json.loads(done.stdout)
        assert done.returncode == (0 if body["fit"] else 1)
        assert {"python", "torch", "icarus", "verilator", "chromium"} <= {check["name"] for check in body["checks"]}
        assert done.stderr == ""

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ([], "required: COMMAND"),
            (["dance"], "invalid choice: 'dance'"),
            (["doctor", "a\nb"], "unrecognized arguments: a b"),
            (["sweep", "digits", "--objectives", "joy"], "'joy' is no objective; choose from latency_ms"),
            (["sweep", "digits", "--objectives", "latency_ms:up"], "followed by :min or :max"),
            (["sweep", "digits", "--objectives", "latency_ms,latency_ms:max"], "named twice"),
            (["cosim", "--window", "9:8"], "is FIRST:LAST, two cycles in order, but got '9:8'"),
            (["cosim", "--window", "1:8"], "there is no --vcd; give both"),
            (["verify", "--cases", "0"], "must be an integer >= 1, but got '0'"),
            (["cosim", "--images", "0"], "must be an integer >= 1, but got '0'"),
            (["demo", "--seed", "-1"], "must be an integer"),
            (["demo", "--simulator", "spice"], "invalid choice: 'spice'"),
            (["rtl"], "required: --out"),
            (["rtl", "--out", "x", "--rows", "eight"], "invalid int value: 'eight'"),
            (["rtl", "--out", "x", "--rows", "0"], "rows is an integer of 1 to 256, but got 0"),
            (["rtl", "--out", "x", "--node-nm", "nan"], "node_nm is a number above 0"),
            (["rtl", "--out", "x", "--design", "not-there.json"], "cannot be read: No such file"),
            (["rtl", "--out", "x", "--design", "f.json", "--rows", "4"], "got both (--rows)"),
            (["demo", "--out", f"{__file__}/below"], f"{__file__} is not one; choose another"),
            (["sweep", "digits", "--out", str(ROOT)], "is a folder; add a file name"),
            (["profile", "alexnet-2000"], "there is no network 'alexnet-2000'; choose from digits, "),
        ],
    )
    def test_bad_input_is_one_line(self, arguments: list[str], told: str, tmp_path: Path) -> None:
        done = codesign(*arguments, cwd=tmp_path)
        assert told in done.stderr
        assert one_line(done.stderr), done.stderr
        assert done.stderr.startswith("codesign")
        assert (done.returncode, done.stdout) == (2, "")
        assert not list(tmp_path.iterdir()), "bad input leaves nothing behind"

    def test_a_reader_that_leaves_is_no_error(self) -> None:
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as gone:
            command = [sys.executable, "-m", "codesign_kernel.cli", "doctor"]
            done = subprocess.run(command, cwd=ROOT, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (141, "")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's full device")
    def test_a_full_disk_is_one_line(self) -> None:
        command = [sys.executable, "-m", "codesign_kernel.cli", "doctor"]
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 2
        assert one_line(done.stderr)
        assert "No space left" in done.stderr


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The command in this process: (exit status, stdout, stderr)."""
    status = cli.main(arguments)
    caught = capsys.readouterr()
    return status, caught.out, caught.err


class TestMain:
    """What main makes of an answer and of each way to fail; the command is a stand-in."""

    @pytest.fixture
    def answering(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        def answer_with(function: Any) -> None:
            monkeypatch.setitem(commands.COMMANDS, "doctor", function)

        return answer_with

    def test_text_or_json(self, answering: Any, capsys: pytest.CaptureFixture[str]) -> None:
        answering(lambda args, progress: Answer("all is well", {"x": np.float32(0.5), "nan": math.nan}))
        assert run(capsys, "doctor") == (0, "all is well\n", "")
        status, out, err = run(capsys, "doctor", "--json")
        assert (status, json.loads(out), err) == (0, {"x": 0.5, "nan": None}, "")

    def test_progress_stays_off_stdout(self, answering: Any, capsys: pytest.CaptureFixture[str]) -> None:
        def slow(args: object, progress: Progress) -> Answer:
            progress(1, 2, "thinking")
            return Answer("", {"done": True})

        answering(slow)
        status, out, err = run(capsys, "doctor", "--json")
        assert (status, json.loads(out), err) == (0, {"done": True}, "thinking  50 %\n")

    def test_a_failed_proof_is_1(self, answering: Any, capsys: pytest.CaptureFixture[str]) -> None:
        answering(lambda args, progress: Answer("3 differ", {}, passed=False))
        assert run(capsys, "doctor") == (1, "3 differ\n", "")

    def test_a_known_error_is_2(self, answering: Any, capsys: pytest.CaptureFixture[str]) -> None:
        def fail(args: object, progress: Progress) -> Answer:
            raise InvalidInputError("rows must be\n  positive")

        answering(fail)
        assert run(capsys, "doctor") == (2, "", "codesign doctor: rows must be positive\n")

    def test_a_mistake_of_ours_is_not_hidden(self, answering: Any) -> None:
        def fail(args: object, progress: Progress) -> Answer:
            raise ZeroDivisionError

        answering(fail)
        with pytest.raises(ZeroDivisionError):
            cli.main(["doctor"])

    def test_an_interrupt_is_130(self, answering: Any, capsys: pytest.CaptureFixture[str]) -> None:
        def wait(args: object, progress: Progress) -> Answer:
            signal.raise_signal(signal.SIGINT)
            return Answer("too late", {})

        answering(wait)
        # a job that a shell starts in the background ignores interrupts
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            status, out, err = run(capsys, "doctor")
        finally:
            signal.signal(signal.SIGINT, before)
        assert (status, out) == (130, "")
        assert err == "codesign: interrupted; no half-written result is left behind\n"


class TestOutput:
    def test_plain(self, tmp_path: Path) -> None:
        body = {"a": np.arange(2), "b": (np.int64(1), math.inf), "c": tmp_path, 1: {None}, "d": np.bool_(True)}
        assert plain(body) == {"a": [0, 1], "b": [1, None], "c": str(tmp_path), "1": [None], "d": True}
        with pytest.raises(TypeError, match="object has no form in JSON"):
            plain([object()])

    def test_tables(self) -> None:
        assert rows_text([("a", 1), ("long", "x")]) == "a     1\nlong  x"
        assert table_text(["name", "n"], [["conv", 7], ["fc", 1000]]) == "name     n\nconv     7\nfc    1000"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestProgress:
    def test_a_log_gets_few_lines(self) -> None:
        log, now = io.StringIO(), [0.0]
        with Progress(log, clock=lambda: now[0]) as progress:
            for step in range(101):
                progress(step, 100, f"sweep, best {step / 2}")
                now[0] += 0.3
            progress(0, 0, "write\nout")
        assert log.getvalue().splitlines() == [
            "sweep, best 0.0   0 %",
            "sweep, best 17.0  34 %",
            "sweep, best 34.0  68 %",
            "sweep, best 50.0 100 %",
            "write out",
        ]

    def test_a_terminal_gets_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "20")
        screen = Terminal()
        with Progress(screen, clock=lambda: 0.0) as progress:
            progress(0, 10, "a message that is longer than the terminal")
            progress(1, 10, "a message that is longer than the terminal")  # too soon to redraw
            progress(10, 10, "a message that is longer than the terminal")
        drawn = screen.getvalue()
        assert "\n" not in drawn
        lines = drawn.split("\r\x1b[K")
        assert lines == ["", "a message that is l", "a message that is l", ""]


class TestParser:
    def test_the_defaults_are_the_accelerators(self) -> None:
        fields = {field.name: field.default for field in dataclasses.fields(Accelerator)}
        for option in DESIGN_OPTIONS:
            if option.field not in ("rows", "cols"):  # these two have no default there
                assert option.default == fields[option.field], option.field
                assert type(option.default) is type(fields[option.field]), option.field
        Accelerator.systolic(**{option.field: option.default for option in DESIGN_OPTIONS})
        assert set(commands.FILE_FIELDS) < set(fields)
        assert set(parser.SIMULATORS) == {"auto", *SIMULATORS}

    def test_objectives(self) -> None:
        def parsed(*arguments: str) -> dict[str, str]:
            return build_parser().parse_args(["sweep", "digits", *arguments]).objectives

        assert parsed() == {"latency_ms": "min", "energy_uj": "min", "area_mm2": "min"}
        assert parsed("--objectives", "utilization, power_mw:max") == {"utilization": "max", "power_mw": "max"}

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("{", "is not JSON"),
            ("[8, 8]", "holds a JSON object, but got a list"),
            ('{"rows": 8}', "lacks cols"),
            ('{"rows": 8, "cols": 8, "pes": 64}', "unknown fields pes; known are rows, cols"),
            ('{"rows": "8", "cols": 8}', "rows is an integer, but got '8'"),
        ],
    )
    def test_a_design_file_with_a_mistake(
        self, text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "design.json"
        path.write_text(text)
        status, out, err = run(capsys, "rtl", "--design", str(path), "--out", str(tmp_path / "rtl"))
        assert (status, out) == (2, "")
        assert told in err
        assert one_line(err)
        assert not (tmp_path / "rtl").exists()


class TestCommands:
    """The commands themselves, on the real rooms."""

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

        wrong = dataclasses.replace(reports[0], cycles_model=reports[0].cycles_rtl + 1)
        monkeypatch.setattr(session, "cosimulate", lambda *arguments, **options: wrong)
        status, out, _ = run(capsys, "cosim")
        assert status == 1
        assert "RTL AND MODEL DIFFER" in out

    def test_cosim_has_so_many_images(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, err = run(capsys, "cosim", "--images", "100000")
        assert (status, out) == (2, "")
        assert "there are 450 test images, but" in err
        assert one_line(err)

    @pytest.mark.slow
    def test_demo(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = run(capsys, "demo", "--out", str(tmp_path / "demo"), "--images", "4", "--json")
        assert (status, isinstance(json.loads(out), dict)) == (0, True)
        assert list((tmp_path / "demo").iterdir())
