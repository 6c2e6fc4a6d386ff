"""The `codesign` command: what it says, what it returns, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import ROOT, codesign, one_line, run

from codesign_kernel import __version__, cli
from codesign_kernel.accelerator import Accelerator
from codesign_kernel.cli import commands, parser
from codesign_kernel.cli.output import Answer, plain, rows_text, table_text
from codesign_kernel.cli.parser import DESIGN_OPTIONS, build_parser
from codesign_kernel.cli.progress import Progress
from codesign_kernel.cosim.simulators import SIMULATORS
from codesign_kernel.errors import InvalidInputError


class TestProcess:
    """Through the real command: exit status, stdout, stderr."""

    def test_version(self) -> None:
        done = codesign("--version")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"codesign {__version__}\n", "")

    def test_help_names_every_command(self) -> None:
        done = codesign("--help")
        assert done.returncode == 0
        for name in commands.COMMANDS:
            assert re.search(rf"^    {name}\s", done.stdout, re.MULTILINE)

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
            (["profile", "alexnet-2000"], "there is no network 'alexnet-2000'; choose from digits, keywords, "),
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
            done = subprocess.run(command, cwd=ROOT, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=100)
        assert (done.returncode, done.stderr) == (141, "")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's full device")
    def test_a_full_disk_is_one_line(self) -> None:
        command = [sys.executable, "-m", "codesign_kernel.cli", "doctor"]
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
        assert done.returncode == 2
        assert one_line(done.stderr)
        assert "No space left" in done.stderr


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
