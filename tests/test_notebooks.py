"""Every lesson runs from top to bottom, in a fresh kernel, and shows what it says."""

from __future__ import annotations

import json
import subprocess
import sys
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
}


def test_there_are_lessons() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(SHOWS)


#: What Binder gives to each of its users at least (bytes).
LEAST_OF_BINDER = 2**30
#: Run apart, so that a client's sockets and event loop are gone when it ends.
RUNNER = """
import sys, threading, nbclient, nbformat, psutil
notebook = nbformat.read(sys.argv[1], as_version=4)
manager = nbclient.client.KernelManager(kernel_name="python3")
manager.kernel_spec.argv[0] = sys.executable  # this interpreter, whatever kernels are installed beside it
client = nbclient.NotebookClient(notebook, timeout=240, km=manager, resources={"metadata": {"path": sys.argv[2]}})
done, most = threading.Event(), [0]
def watch():
    # what belongs to the kernel and its workers; pages that they share count once
    while not done.wait(0.5):
        total = 0
        for process in psutil.Process().children(recursive=True):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:  # it has just ended
                pass
        most[0] = max(most[0], total)
watcher = threading.Thread(target=watch)
watcher.start()
try:
    client.execute()
finally:
    done.set()
nbformat.write(notebook, sys.argv[3])
watcher.join()
print(most[0])
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    executed = tmp_path / "executed.ipynb"
    command = [sys.executable, "-c", RUNNER, str(path), str(tmp_path), str(executed)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert 0 < int(run.stdout) < LEAST_OF_BINDER, f"{path.stem} took {int(run.stdout) / 2**20:,.0f} MiB"
    cells = [cell for cell in json.loads(executed.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [o for o in outputs if o.get("name") == "stderr"], "a lesson prints no warning"
    figures = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    least, told = SHOWS[path.stem]
    assert len(figures) >= least
    assert told in "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")
