"""Sources of hardware as a page shows them: their outline, and the colours of words."""

from __future__ import annotations

import numpy as np
import pytest
from cases import TINY

import codesign_kernel as ck

pytest.importorskip("codesign_widgets")

from codesign_widgets.rtl_sources import marks_of, modules_of, outline, top_of

A = TINY["2x2"]


@pytest.fixture(scope="module")
def bundle() -> ck.RtlBundle:
    return ck.generate_rtl(A)


@pytest.mark.parametrize("language", ["verilog", "vhdl"])
def test_the_hierarchy_is_that_of_the_sources(bundle: ck.RtlBundle, language: str) -> None:
    """Counted from the top down, there are as many multipliers as PEs, and every module is a part of something."""
    modules = modules_of(bundle.files, language)
    assert top_of(modules, bundle.top) == bundle.top
    assert top_of(modules, "other") == bundle.top
    used = {part.module for module in modules.values() for part in module.parts}
    assert used == set(modules) - {bundle.top}
    files = {name: text.split("\n") for name, text in bundle.files.items()}
    for name, module in modules.items():
        assert name in files[module.file][module.line - 1]

    def count(name: str) -> int:
        if name.startswith("codesign_pe"):
            return 1
        return sum(part.many * count(part.module) for part in modules[name].parts)

    assert count(bundle.top) == A.rows * A.cols


def test_both_languages_have_the_same_parts(bundle: ck.RtlBundle) -> None:
    parts = {
        language: {
            name: sorted((p.module, p.many) for p in one.parts)
            for name, one in modules_of(bundle.files, language).items()
        }
        for language in ("verilog", "vhdl")
    }
    assert parts["verilog"] == parts["vhdl"]


def test_one_text_of_all_modules(bundle: ck.RtlBundle) -> None:
    joined = bundle.with_verilog(bundle.verilog)
    told = outline(joined.files, joined.top)
    assert {one["file"] for one in told["verilog"]["modules"].values()} == {f"{bundle.top}.v"}
    assert len(told["verilog"]["modules"]) == len(outline(bundle.files, bundle.top)["verilog"]["modules"])


@pytest.mark.parametrize(("language", "ending"), [("verilog", ".v"), ("vhdl", ".vhd")])
def test_words_have_their_colours(bundle: ck.RtlBundle, language: str, ending: str) -> None:
    text = bundle.files[f"{bundle.top}{ending}"]
    pairs = np.frombuffer(marks_of(text, language), "<u4").reshape(-1, 2)
    assert (np.diff(pairs[:, 0].astype(int)) > 0).all()
    assert (pairs[1:, 1] != pairs[:-1, 1]).all()
    words = [
        (text[a:b], code) for (a, code), b in zip(pairs.tolist(), [*pairs[1:, 0].tolist(), len(text)], strict=True)
    ]
    of = {code: {word.strip() for word, one in words if one == code} for code in range(8)}
    assert {"signal", "begin"} & of[2] if language == "vhdl" else {"module", "endmodule"} & of[2]
    assert all(word.startswith("--" if language == "vhdl" else "//") for word in of[3])
    assert of[5]
    assert marks_of("text", "") == b""
