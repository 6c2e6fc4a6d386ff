"""RTL studio: what stands behind its page, and the page itself, as a visitor of a gateway has it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("codesign_widgets")

from apps import thin, visited
from browser import check_looks, settle

from codesign_kernel.errors import InfeasibleDesignError, InvalidInputError
from codesign_kernel.session.digits import digits_accuracy, digits_images, digits_network
from codesign_kernel.session.studio import Studio

DEFAULTS = {"dataflow": "ws", "bits": "8", "rows": 4, "cols": 4, "activation_kib": 2.0, "weight_kib": 8.0}


def ignore(*_: Any) -> None:
    """Progress that nobody reads."""


def test_the_app_is_thin_and_stored_without_outputs() -> None:
    assert thin("rtl_studio")["metadata"]["title"] == "RTL studio"


@pytest.mark.parametrize(("bits", "least"), [(4, 0.95), (8, 0.975), (16, 0.975)])
def test_the_stored_network_reads_digits(bits: int, least: float) -> None:
    network = digits_network(bits)
    assert (network.bits, network.workload.macs, network.input_shape) == (bits, 84_224, (1, 8, 8))
    images, labels = digits_images()
    assert (images.shape, len(labels), images.min(), images.max()) == ((450, 1, 8, 8), 450, 0, 1)
    assert digits_accuracy(bits) == np.mean(network.predict(images).argmax(axis=1) == labels) > least


@pytest.mark.slow
def test_what_is_stored_is_what_the_task_and_the_network_are() -> None:
    """The images are those of load_digits, and the integers those of the stored weights."""
    from codesign_kernel.optimize import load_digits, quantize
    from codesign_kernel.session.digits import digits_model

    data = load_digits()
    for part in ("test", "validation"):
        images, labels = digits_images(part)
        assert np.array_equal(images, getattr(data, f"{part}_x"))
        assert np.array_equal(labels, getattr(data, f"{part}_y"))
    made = quantize(digits_model(), data.calibration_x)
    stored = digits_network(8)
    same = made.predict(data.test_x).argmax(axis=1) == stored.predict(data.test_x).argmax(axis=1)
    assert made.workload.digest == stored.workload.digest
    assert same.mean() > 0.99  # scales may round differently on another machine


def test_the_studio_expects_makes_and_packs(builds: Path) -> None:
    studio = Studio()
    assert studio.expected(DEFAULTS)[0]["value"] == "6,710 cycles"
    with pytest.raises(InvalidInputError, match="generate the accelerator first"):
        studio.archive()
    with pytest.raises(InfeasibleDesignError, match="activation_kib"):
        studio.expected({**DEFAULTS, "activation_kib": 0.1})
    bundle = studio.generate(DEFAULTS, ignore)
    name, content = studio.archive()
    assert name == "codesign-4x4-ws-int8.zip"
    assert studio.archive() == (name, content), "equal sources, equal bytes"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        texts = {entry: archive.read(entry).decode() for entry in archive.namelist()}
    assert texts == {f"4x4-ws-int8/{path}": text for path, text in bundle.texts.items()}
    assert "4x4-ws-int8/testbench/README.md" in texts


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_visitor_generates_reads_proves_and_downloads(tmp_path: Path) -> None:
    with visited("rtl_studio", ".ckx-settings .ckx-tiles dd", tmp_path) as tab:
        # something real before anything is touched: the estimate, and then the sources
        assert tab.inner_text(".ckx-settings .ckx-tiles dd >> nth=0").startswith("6,710 cycles")
        tab.wait_for_selector(".ckx-rtl h3:has-text('34 modules')", timeout=60_000)

        # what cannot be is refused beside its control, and what was there stays, dimmed
        field = tab.get_by_role("spinbutton", name="Activation memory")
        field.fill("0.5")
        field.press("Enter")
        field.press("Tab")
        rows = tab.get_by_role("spinbutton", name="Rows")
        rows.fill("3")
        rows.press("Tab")
        tab.wait_for_selector(".ckx-settings .ckx-error:not(:empty)")
        assert "Traceback" not in tab.inner_text("body")
        tab.get_by_role("button", name="Back to the defaults").click()
        tab.wait_for_function("() => !document.querySelector('.ckx-settings .ckx-error:not(:empty)')")

        # another design, by keyboard: outputs stay, two by two
        stays = tab.get_by_label("What stays in the array")
        stays.focus()
        stays.press("ArrowDown")
        for name in ("Rows", "Columns"):
            slider = tab.get_by_role("slider", name=name)
            slider.focus()
            slider.press("ArrowLeft")
        tab.wait_for_selector(".ckx-settings .ckx-state:has-text('Not made yet')")
        settle(tab)
        # it may be done before anybody has looked
        tab.evaluate(
            """() => {
              const bar = document.querySelector(".ckx-settings progress");
              const shown = (changes) => { window.worked ||= changes.some((one) => one.oldValue === null); };
              new MutationObserver(shown).observe(bar, { attributeFilter: ["hidden"], attributeOldValue: true });
            }"""
        )
        tab.get_by_role("button", name="Generate").press("Enter")
        tab.wait_for_function("window.worked && document.querySelector('.ckx-settings progress').hidden")
        expected = tab.inner_text(".ckx-settings .ckx-tiles dd >> nth=0").split(" cycles")[0]

        # the proof begins by itself
        tab.get_by_role("tab", name="Sources").focus()
        tab.keyboard.press("ArrowRight")
        tab.wait_for_selector(".ckx-verdict.ckx-passed:visible", timeout=120_000)
        assert "bit for bit and cycle for cycle" in tab.inner_text(".ckx-verdict")
        assert f"RTL {expected}, predicted {expected}" in tab.inner_text(".ckx-cosim .ckx-tiles")

        with tab.expect_download(timeout=30_000) as download:
            tab.get_by_role("button", name="Download as zip").click()
        assert download.value.suggested_filename == "codesign-2x2-os-int8.zip"
        with zipfile.ZipFile(download.value.path()) as archive:
            assert "2x2-os-int8/codesign_core.v" in archive.namelist()

        tab.get_by_role("tab", name="Waves").click()
        tab.wait_for_selector("[role=tabpanel]:not([hidden]) .ckx-rtl canvas", timeout=90_000)
        check_looks(tab, "rtl_studio")
