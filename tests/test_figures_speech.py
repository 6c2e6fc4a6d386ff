"""The picture of spoken words: what it says is checked on pictures made by hand."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest

from codesign_kernel import figures
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme


class Form(NamedTuple):
    rate_hz: int = 1000
    hop: int = 250
    centres_hz: np.ndarray = np.array([100.0, 1000.0, 3000.0])


LABELS = ("yes", "no", "<off>")
Y = np.array([2, 0, 2, 0])
X = np.random.default_rng(0).uniform(-1, 1, (4, 1, 4, 3)).astype(np.float32)
SCORES = np.eye(3)[[2, 1, 0, 0]]


def test_the_first_of_each_word_is_shown() -> None:
    info = figures.speech_info(X, Y, LABELS, Form())
    assert [(word.said, word.heard, word.label) for word in info.words] == [
        ("yes", None, "yes"), ("<off>", None, "<off>"),
    ]  # fmt: skip
    assert np.array_equal(info.words[0].picture, X[1, 0].T)
    assert np.array_equal(info.words[1].picture, X[0, 0].T)
    assert info.times_s == (0.125, 0.375, 0.625, 0.875)
    assert info.bands_hz == (100, 1000, 3000)
    assert info.finding == "2 words, each somewhere in a second of noise"


def test_what_was_understood_is_told() -> None:
    info = figures.speech_info(X, Y, LABELS, Form(), SCORES)
    assert [word.label for word in info.words] == ["yes ✗ heard as no", "<off> ✓"]
    assert info.finding == "1 of 2 words are understood"


def test_every_word_is_drawn_with_its_axes() -> None:
    figure = figures.plot_speech(X, Y, LABELS, Form(), SCORES)
    assert [trace.type for trace in figure.data] == ["heatmap", "heatmap"]
    assert np.array(figure.data[0].z) == pytest.approx(X[1, 0].T, rel=1e-5)
    assert {(trace.zmin, trace.zmax) for trace in figure.data} == {(X[:2].min(), X[:2].max())}
    assert [note.text for note in figure.layout.annotations] == ["yes ✗ heard as no", "&lt;off&gt; ✓"]
    colours = [note.font.color for note in figure.layout.annotations]
    assert colours == [theme.LIGHT["bad"], theme.LIGHT["text"]]
    # 1,000 Hz is the middle of the second band, 2,000 Hz half way to the third
    ticks = dict(zip(figure.layout.yaxis.ticktext, figure.layout.yaxis.tickvals, strict=True))
    assert (ticks["1,000"], ticks["2,000"]) == (1, 1.5)
    assert figure.layout.xaxis.range == (0, 1)
    assert (figure.layout.yaxis.showticklabels, figure.layout.yaxis2.showticklabels) == (True, False)
    assert "yes ✗ heard as no" in figure.layout.meta["alt"]


def test_a_narrow_page_has_two_columns() -> None:
    x, y, labels = np.repeat(X[:1], 7, 0), np.arange(7), tuple("abcdefg")
    figure = figures.plot_speech(x, y, labels, Form())
    wide = [figure.layout[f"xaxis{n}"].domain[0] for n in ("", 2, 3, 4, 5, 6, 7)]
    assert wide == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0, 0.2])
    narrow = figures.narrowed(figure).layout
    assert [narrow[f"xaxis{n}"].domain[0] for n in ("", 2, 3, 4, 5, 6, 7)] == pytest.approx([0, 0.5, 0, 0.5, 0, 0.5, 0])
    assert [narrow[f"xaxis{n}"].showticklabels for n in ("", 2, 3, 4, 5, 6, 7)] == [False] * 5 + [True] * 2
    assert narrow.height > figure.layout.height
    domains = [(narrow[f"yaxis{n}"].domain) for n in ("", 3, 5, 7)]
    assert all(above[0] > below[1] for above, below in itertools.pairwise(domains))


@pytest.mark.parametrize(
    ("x", "y", "scores", "told"),
    [
        (X[:0], Y[:0], None, "utterances are .N >= 1"),
        (X[..., :2], Y, None, "3 bands"),
        (X, Y[:2], None, "labels .N."),
        (X, Y, SCORES[:, :2], r"scores are \[4, 3\]"),
    ],
)
def test_what_does_not_fit_is_refused(x, y, scores, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        figures.speech_info(x, y, LABELS, Form(), scores)
