"""Every lesson runs from top to bottom, in a fresh kernel, and shows what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


#: What each lesson has to show: so many figures, and a line that says what was proven.
SHOWS = {
    "00_quickstart": (3, "bits equal"),
    "01_estimates": (3, "80 of 80 array cycles equal"),
    "02_explore": (1, "same front as undisturbed"),
    "03_scale": (3, "2 workers at the end"),
    "04_co_optimise": (3, "bits equal"),
    "07_workflow": (1, "done again: choose, generate, cosimulate, report"),
    "06_mapping": (0, "adds up to"),
    "05_silicon": (1, "3 of 3 random networks agree"),
}


def test_there_are_lessons() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(SHOWS)


#: What Binder gives to each of its users at least (bytes).
LEAST_OF_BINDER = 2**30
#: Plays the lessons it is told of, line by line, and answers with the memory each has taken (byte). A process apart, so
#: that a client's sockets and event loops are none of pytest's. Every lesson has a kernel of its own, forked from one
#: process that has loaded what most of them load (labs_kernels.py).
PLAYER = """
import json, sys, threading, nbclient, nbformat, psutil
sys.path.insert(0, sys.argv[1])
import labs_harness
def watch(done, most):
    # what belongs to the kernel, the process that it was forked from and its workers; pages that they share count once.
    # To count them the system walks through all of them, so it is asked where the sum with shared pages, which is never
    # less, has moved.
    walked = 0
    while not done.wait(0.5):
        try:
            processes = psutil.Process().children(recursive=True)
            with_shared = sum(process.memory_info().rss for process in processes)
            if with_shared <= most[0] or abs(with_shared - walked) < 2**21:
                continue
            most[0] = max(most[0], sum(process.memory_full_info().pss for process in processes))
            walked = with_shared
        except psutil.Error:  # one of them has just ended
            pass
def play(lesson, folder, executed):
    notebook = nbformat.read(lesson, as_version=4)
    where = {"metadata": {"path": folder}}
    client = nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3", resources=where)
    done, most, error = threading.Event(), [0], ""
    watcher = threading.Thread(target=watch, args=(done, most))
    watcher.start()
    try:
        client.execute()
    except (nbclient.exceptions.CellControlSignal, nbclient.exceptions.DeadKernelError) as failed:
        error = str(failed)  # a cell fails or takes too long, or the kernel has died
    finally:
        done.set()
        watcher.join()
    nbformat.write(notebook, executed)
    return {"bytes": most[0], "error": error}
with labs_harness.quick_kernels():
    for line in sys.stdin:
        print(json.dumps(play(*json.loads(line))), flush=True)
"""


@pytest.fixture(scope="module")
def player() -> Iterator[subprocess.Popen[str]]:
    """The process that plays lessons."""
    pytest.importorskip("nbclient")
    command = [sys.executable, "-c", PLAYER, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path: Path, tmp_path: Path, player: subprocess.Popen[str]) -> None:
    assert player.stdin is not None
    assert player.stdout is not None
    executed = tmp_path / "executed.ipynb"
    print(json.dumps([str(path), str(tmp_path), str(executed)]), file=player.stdin, flush=True)
    line = player.stdout.readline()
    assert line, "the process that plays lessons has ended; its words are above"
    run = json.loads(line)
    assert not run["error"], run["error"][-3000:]
    assert 0 < run["bytes"] < LEAST_OF_BINDER, f"{path.stem} took {run['bytes'] / 2**20:,.0f} MiB"
    cells = [cell for cell in json.loads(executed.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [o for o in outputs if o.get("name") == "stderr"], "a lesson prints no warning"
    figures = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    least, told = SHOWS[path.stem]
    assert len(figures) >= least
    assert told in "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
