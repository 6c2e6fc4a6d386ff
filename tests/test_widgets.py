"""What holds for every widget: it works in JupyterLab, and closing it leaves nothing behind."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

codesign_widgets = pytest.importorskip("codesign_widgets")

from browser import KERNEL_PATH, Served, browse, jupyterlab, run_all, serious_violations, settle  # noqa: E402 - behind what it needs

from codesign_widgets.page import style_of, text_of  # noqa: E402

#: Widget -> the module of its own tests, whose CELL shows it with real data.
HOMES = {
    "AppFrame": "test_frame",
    "ArrayAnimator": "test_array_widget",
    "CosimPanel": "test_cosim_widget",
    "DesignExplorer": "test_designs_widget",
    "ExplorationMonitor": "test_monitor_widget",
    "MappingViewer": "test_mapping_widget",
    "ModelExplorer": "test_models_widget",
    "Playground": "test_playground",
    "Roofline": "test_roofline_widget",
    "RtlViewer": "test_rtl_widget",
    "Settings": "test_settings",
}
#: Have nothing to draw before they are told to begin.
BEGIN = {"CosimPanel": "Run", "ExplorationMonitor": "Start"}
#: Have tests of their own: a cluster is started and ended there, the others are parts of apps.
ELSEWHERE = {"ArrayQuiz", "ClusterWatch", "Console", "ModelSource", "Settings"}


def cell(widget: str) -> str:
    return importlib.import_module(HOMES[widget]).CELL


def test_every_widget_is_here() -> None:
    pages = {name for name in codesign_widgets.__all__ if hasattr(getattr(codesign_widgets, name), "comm")}
    assert pages == set(HOMES) | ELSEWHERE


def test_a_widget_styles_itself_alone() -> None:
    """In one document with all others: behind what they share, each style holds below a root of its own."""
    styles = {name: getattr(codesign_widgets, name)._css for name in {*HOMES, *ELSEWHERE}}
    shared = style_of()
    assert "@keyframes" in shared
    assert styles.pop("Playground") == shared, "it has the looks that all share"
    roots = []
    for name, style in styles.items():
        own = style.removeprefix(shared)
        assert "@keyframes" not in own, "keyframes have one name in a document"
        (root,) = {*re.findall(r":is\(\.(ckx-\w+), \.ckx-\w+ \*\)", own)}
        roots.append(root)
        assert re.findall(r"@[^{]*\{", own) == re.findall(r"@[^{]*\{", text_of_style(name))
        for selectors in re.findall(r"(?:(?<=[{};])|^)\s*([^{};@\s][^{};@]*?)\s*\{", own):
            for one in re.split(r",(?![^()]*\))", selectors):
                assert re.search(rf":is\(\.{root}, \.{root} \*\)(::[\w-]+)?$", one), f"{name}: {one}"
        assert re.findall(r"\{[^{}]*\}", own) == re.findall(r"\{[^{}]*\}", text_of_style(name))
    assert len(roots) == len({*roots})


def text_of_style(widget: str) -> str:
    """A widget's style as it is written, without its comments."""
    module = importlib.import_module(getattr(codesign_widgets, widget).__module__)
    return re.sub(r"/\*.*?\*/", "", text_of(f"{module.__name__.rpartition('.')[2]}.css"), flags=re.DOTALL)


#: How often each is opened and closed; what is left of one would be seen in two.
TIMES = int(os.environ.get("CODESIGN_OPENED", "12"))
#: In a kernel: opens and closes what the last line of each cell gives, and counts what is left of it.
LEAKS = """
import ast, gc, json, threading, ipywidgets
def closed(cell, times):
    tree = ast.parse(cell)
    last = ast.Expression(tree.body.pop().value)
    names = {"__name__": "__main__"}
    exec(compile(tree, "cell", "exec"), names)
    make = compile(last, "cell", "eval")
    def count():
        gc.collect()
        comms = get_ipython().kernel.comm_manager.comms
        return [len(comms), len(ipywidgets.widgets.widget._instances), threading.active_count()]
    eval(make, names).close()  # the first brings what all share: the bundle of Plotly
    before = count()
    for round in range(times):
        made = eval(make, names)
        if round < 2 and hasattr(made, "start"):  # a job in a thread, which closing stops
            made.start()
        made.close()
    return before, count()
cells = json.loads(CELLS)
print(json.dumps({name: closed(cell, TIMES) for name, cell in cells.items()}))
"""
RUN = """
import sys, nbclient, nbformat
cell = nbformat.v4.new_code_cell(sys.stdin.read())
notebook = nbformat.v4.new_notebook(cells=[cell])
manager = nbclient.client.KernelManager(kernel_name="python3")
manager.kernel_spec.argv[0] = sys.executable
nbclient.NotebookClient(notebook, timeout=500, km=manager, resources={"metadata": {"path": sys.argv[1]}}).execute()
print("".join(output["text"] for output in cell.outputs if output.get("name") == "stdout"))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_closed_widget_leaves_nothing_in_the_kernel(tmp_path: Path) -> None:
    """Comms, models and threads, of a real kernel."""
    pytest.importorskip("nbclient")
    cells = json.dumps({name: cell(name) for name in HOMES})
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        input=f"TIMES, CELLS = {TIMES}, {cells!r}\n{LEAKS}",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": KERNEL_PATH},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.strip().splitlines()[-1])
    assert set(found) == set(HOMES)
    assert {name: after for name, (_, after) in found.items()} == {name: before for name, (before, _) in found.items()}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A JupyterLab with a notebook of all widgets."""
    with jupyterlab(tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("lab")) as lab:
        lab.write("widgets", *[cell(name) for name in HOMES])
        yield lab


#: anywidget gives a script 2 s to start, which a busy machine needs for eleven of them; our Voila page does the same.
PATIENT = "AbortSignal.timeout = ((timeout) => (ms) => timeout.call(AbortSignal, ms + 200000))(AbortSignal.timeout);"
#: That each widget is there; one of them shows another.
SHOWN = f"() => document.querySelectorAll('.jp-Notebook .ckx:not(.ckx .ckx)').length >= {len(HOMES)}"


@pytest.fixture(scope="module")
def tab(notebook: Served) -> Iterator[Any]:
    """It, open and run."""
    with browse(f"{notebook.url}lab/tree/widgets.ipynb", ".jp-Notebook .jp-CodeCell", script=PATIENT) as opened:
        opened.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
        run_all(opened)
        yield opened


#: Ids that more than one element of the notebook has.
TWICE = """() => {
  const ids = [...document.querySelectorAll(".jp-Notebook [id]")].map((element) => element.id);
  return [...new Set(ids.filter((id, at) => ids.indexOf(id) !== at))];
}"""


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_of_them_in_jupyterlab(tab: Any) -> None:
    """Each shows a picture, light and dark; axe-core is content; nothing is wider than its cell; ids are unique."""
    tab.wait_for_function(SHOWN, timeout=200_000)
    tab.set_viewport_size({"width": 1280, "height": 2600})  # what is scrolled away is cut from pictures
    folder = os.environ.get("CODESIGN_SHOTS")
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        tab.evaluate("(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
        dark = str(theme.endswith("Dark")).lower()
        told = "(dark) => [...document.querySelectorAll('.ckx')].every((page) => page.dataset.dark === dark)"
        tab.wait_for_function(told, arg=dark)
        settle(tab)
        serious = serious_violations(tab)
        assert not serious, f"{theme}: {serious}"
        for number, name in enumerate(HOMES):
            page = tab.locator(".jp-Notebook .ckx:not(.ckx .ckx)").nth(number)
            page.scroll_into_view_if_needed()
            if folder:
                page.screenshot(path=f"{folder}/lab-{name}-{dark}.png")
            if name in BEGIN:
                assert page.get_by_role("button", name=BEGIN[name], exact=True).is_enabled()
            elif name == "Settings":  # a form
                assert page.get_by_role("button").count() > 0
            else:
                page.locator("svg, canvas").first.wait_for(state="attached")
            assert page.evaluate("(page) => page.scrollWidth <= page.clientWidth + 1"), f"{name} is wider than its cell"
    assert tab.evaluate("() => document.querySelectorAll('script[src^=blob]').length") == 1
    twice = tab.evaluate(TWICE)
    assert not twice, f"ids that occur more than once, so that labels and descriptions are another's: {twice}"


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_state_is_saved_with_the_notebook_and_comes_back(notebook: Served, tab: Any) -> None:
    """Every widget's model stands in the file, and the page that is loaded again shows all of them."""
    tab.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    saved = json.loads((notebook.folder / "widgets.ipynb").read_text(encoding="utf-8"))
    models = saved["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    kept = [model["state"]["_anywidget_id"].rpartition(".")[2] for model in models if "_anywidget_id" in model["state"]]
    assert set(HOMES) <= set(kept)
    tab.reload(wait_until="commit")
    tab.wait_for_function(SHOWN, timeout=200_000)
