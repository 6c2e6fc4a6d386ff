"""The magics, in a real shell: what a cell leaves behind, what is shown, and how mistakes read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("IPython")

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import codesign_kernel as ck
from codesign_kernel.magics import CodesignMagics, Examination
from codesign_kernel.session.doctor import Check

SETUP = "import torch\nlayer = torch.nn.Linear(6, 3)\nimage = torch.zeros(2, 6)\nitems = [layer]"


@pytest.fixture(scope="module")
def running() -> Iterator[InteractiveShell]:
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "codesign_kernel")
    shell.run_cell(SETUP)
    yield shell
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(running: InteractiveShell) -> Iterator[InteractiveShell]:
    before = dict(running.user_ns)
    yield running
    for name in {*running.user_ns} - {*before}:
        del running.user_ns[name]


def ran(shell: InteractiveShell, line: str, cell: str) -> tuple[Any, list[Any]]:
    """The value of the magic, and the objects that it displayed before."""
    with capture_output(stdout=False, stderr=False) as seen:
        value = shell.run_cell_magic("codesign_profile", line, cell)
    return value, seen.outputs


def test_the_last_expression(shell: InteractiveShell) -> None:
    value, before = ran(shell, "", "made = layer\nmade, image\n")
    assert isinstance(value, ck.Profile)
    assert (value.macs, value.name, before) == (2 * 6 * 3, "Linear", [])
    assert shell.user_ns["made"] is shell.user_ns["layer"], "what the cell assigns stays"


def test_named_parts_and_a_variable(shell: InteractiveShell) -> None:
    value, _ = ran(shell, "--model items[0] -i image --name mine --to kept", "other = 1\n")
    assert shell.user_ns["kept"] is value
    assert (value.name, shell.user_ns["other"]) == ("mine", 1)
    assert "kept_cost" not in shell.user_ns


def test_on_an_accelerator_and_sorted(shell: InteractiveShell) -> None:
    shell.user_ns["array"] = ck.Accelerator.systolic(4, 4)
    cost, before = ran(shell, "--to kept -a array --sort macs", "torch.nn.Sequential(layer, torch.nn.ReLU()), image")
    assert isinstance(cost, ck.Cost)
    assert shell.user_ns["kept_cost"] is cost
    assert cost.accelerator is shell.user_ns["array"]
    assert [{*one.data} >= {"text/plain", "text/html"} for one in before] == [True, True]
    assert "Profile Sequential" in before[0].data["text/plain"]
    assert before[1].data["text/plain"].index("linear") < before[1].data["text/plain"].index("relu")
    cost, _ = ran(shell, "-a tpu_v1", "layer, image")
    assert cost.accelerator.name == "tpu_v1"


def test_a_network_of_the_zoo_needs_no_input(shell: InteractiveShell) -> None:
    value, _ = ran(shell, "", "'ds_cnn'" if "ds_cnn" in ck.zoo.names() else repr(ck.zoo.names()[0]))
    assert value.macs > 1000


def test_a_semicolon_shows_nothing(shell: InteractiveShell) -> None:
    value, before = ran(shell, "--to kept --sort macs", "layer, image;")
    assert value is None
    assert before == []
    assert shell.user_ns["kept"].macs == 36


@pytest.mark.parametrize(
    ("line", "cell", "told"),
    [
        ("", "made = 1", "ends with no expression; end the cell with `model, input`"),
        ("", "layer", "an example input, but Linear has none"),
        ("--to 2x", "layer, image", "name of a variable, but got '2x'"),
        ("--sort weight", "layer, image", r"--sort is a column of the profile \(name, op, .*but got 'weight'"),
        ("--input nothing", "layer", "--input is an expression of this notebook, but 'nothing' is none"),
        ("--accelerator tpu_v9", "layer, image", "tpu_v9.*tpu_v1|tpu_v1.*tpu_v9"),
        ("--accelerator image", "layer, image", "Accelerator"),
        ("--fast", "layer, image", "unrecognized arguments: --fast"),
        ("", "'no_such_network'", "no_such_network"),
        ("", "3, image", "model"),
    ],
)
def test_mistakes_in_words(shell: InteractiveShell, line: str, cell: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ran(shell, line, cell)


def test_a_mistake_in_the_options_runs_nothing(shell: InteractiveShell) -> None:
    with pytest.raises(UsageError):
        ran(shell, "--to 2x", "happened = True\nlayer, image")
    assert "happened" not in shell.user_ns


def test_what_a_cell_raises_is_its_own(shell: InteractiveShell) -> None:
    with pytest.raises(ZeroDivisionError):
        ran(shell, "", "half = 1\n1 / 0")
    assert shell.user_ns["half"] == 1
    with pytest.raises(SyntaxError):
        ran(shell, "", "1 +")


def test_the_help_says_it_all() -> None:
    text = CodesignMagics.codesign_profile.__doc__
    assert all(option in text for option in ("--input", "--name", "--to", "--accelerator", "--sort"))
    assert "Run the cell" in text


def test_the_doctor(shell: InteractiveShell) -> None:
    whole = shell.run_line_magic("codesign_doctor", "")
    assert whole.fit
    assert "✓ python" in str(whole)
    assert "numpy" in whole._repr_mimebundle_(include=["text/html"])["text/html"]
    missing = shell.run_line_magic("codesign_doctor", "--missing")
    assert all(not check.found for check in missing.checks)
    with pytest.raises(UsageError, match="--all"):
        shell.run_line_magic("codesign_doctor", "--all")


def test_what_is_missing_has_its_remedy() -> None:
    found = Examination([Check("<b>", False, "part of the core", "pip install <b>", required=True)])
    assert not found.fit
    assert str(found) == "✗ <b>  part of the core; pip install <b>"
    body = found._repr_mimebundle_(include=["text/html"])["text/html"]
    assert "✗ missing" in body
    assert "pip install &lt;b&gt;" in body
    nothing = Examination([])
    assert str(nothing) == "Nothing is missing."
    assert "Nothing is missing." in nothing._repr_mimebundle_()["text/html"]
