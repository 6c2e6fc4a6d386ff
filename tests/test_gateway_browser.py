"""The gateway in a browser: from the address that is printed to an app that answers, and to the end of its kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from browser import browse, new_tab
from gateway import Gate

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(600)]


def turned(tab: Any, to: int) -> None:
    """Move the slider to ``to`` with the keyboard, and wait for the kernel's answer."""
    tab.locator(".noUi-handle").first.focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function(f"document.querySelector('#out')?.textContent === 'size {to}'")


def test_from_the_printed_address_to_an_app_that_answers(gate: Gate) -> None:
    """Nothing goes wrong on the way, and nothing is asked for elsewhere (``browse`` looks at both)."""
    with browse(gate.sign_in, "a[href$='apps/slider']") as tab:
        assert "token" not in tab.url
        tab.click("a[href$='apps/slider']")
        tab.wait_for_selector("#out", timeout=60_000)
        turned(tab, 1)
        turned(tab, 2)
        assert tab.locator("#ended").is_hidden()
        tab.goto(gate.url)  # leaving the page ends its kernel


#: What a page's widget manager finds of a model that comes just when it has stopped to wait for it.
LATE = """async () => {
  const made = await window._JUPYTERLAB["@jupyter-widgets/jupyterlab-manager"].get("./extension");
  const find = made().KernelWidgetManager.prototype.get_model;
  const began = Date.now();
  return find.call({ get _models() { return Date.now() - began > 2000 ? { late: "there" } : {}; } }, "late");
}"""


def test_a_widget_that_comes_late_is_found(gate: Gate, tab: Any) -> None:
    """As in a browser that was busy for seconds while the page loaded: it said "model not found" for good."""
    tab.goto(f"{gate.url}apps/slider", wait_until="commit")
    tab.wait_for_selector("#out", timeout=60_000)
    assert tab.evaluate(LATE) == "there"


@pytest.fixture
def tab(gate: Gate) -> Iterator[Any]:
    """A tab of somebody who is signed in. Its console is not looked at: a lost connection is an error there."""
    with new_tab() as page:
        page.context.add_cookies([{"name": n, "value": v, "url": gate.url} for n, v in gate.visitor("unlucky").items()])
        yield page
        page.goto("about:blank")  # the gate is everybody's: leaving the page ends its kernel


def test_a_page_whose_kernel_is_killed_says_so_and_starts_again(gate: Gate, tab: Any) -> None:
    server = psutil.Process(gate.process.pid)
    before = {child.pid for child in server.children(recursive=True)}
    tab.goto(f"{gate.url}apps/slider", wait_until="commit")
    tab.wait_for_selector("#out", timeout=60_000)
    turned(tab, 1)
    for process in server.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # what the server started for a moment
            if process.pid not in before and "ipykernel" in " ".join(process.cmdline()) and not process.children():
                process.kill()
    tab.wait_for_selector("#ended:not([hidden])")
    assert "This session has ended" in tab.inner_text("#ended")
    with tab.expect_navigation(wait_until="commit"):  # what is waited for next is on the page before, too
        tab.click("#ended button")
    tab.wait_for_selector("#out", timeout=60_000)
    turned(tab, 1)


def test_a_page_that_is_closed_ends_its_kernel(gate: Gate, tab: Any) -> None:
    server = psutil.Process(gate.process.pid)
    before = {child.pid for child in server.children(recursive=True)}
    tab.goto(f"{gate.url}apps/slider", wait_until="commit")
    tab.wait_for_selector("#out", timeout=60_000)
    turned(tab, 1)
    born = [child for child in server.children(recursive=True) if child.pid not in before]
    assert born
    tab.goto("about:blank")
    _, alive = psutil.wait_procs(born, timeout=60)
    assert not alive
