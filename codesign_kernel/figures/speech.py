"""Spoken words as the network hears them: a spectrogram of each, and what was understood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.figures import theme

#: Pictures side by side on a page, and at 390 px.
_COLUMNS, _NARROW_COLUMNS = 5, 2
#: px of a picture with its name, and between rows.
_ROW = 150
#: Frequencies that the axes name (Hz).
_NAMED_HZ = (200, 500, 1000, 2000, 3000)


class Form(Protocol):
    """What the axes need to know of a spectrogram."""

    @property
    def rate_hz(self) -> int: ...
    @property
    def hop(self) -> int: ...
    @property
    def centres_hz(self) -> NDArray[np.float64]: ...


class SpokenWord(NamedTuple):
    """picture: loudness [bands, frames], as the network reads it. heard: what was understood, or ``None``."""

    said: str
    heard: str | None
    picture: NDArray[np.float32]

    @property
    def label(self) -> str:
        """``yes``, or ``off ✗ up`` where ``up`` was understood."""
        if self.heard is None:
            return self.said
        return f"{self.said} ✓" if self.heard == self.said else f"{self.said} ✗ heard as {self.heard}"


class SpeechInfo(NamedTuple):
    """times_s: middle of each frame. bands_hz: middle of each band."""

    words: tuple[SpokenWord, ...]
    times_s: tuple[float, ...]
    bands_hz: tuple[float, ...]
    finding: str


def speech_info(
    x: NDArray[np.float32], y: NDArray[np.int64], labels: Sequence[str], form: Form,
    scores: NDArray[Any] | None = None,
) -> SpeechInfo:  # fmt: skip
    """The first utterance of each word.

    Args:
        x: utterances [N, 1, frames, bands], as of ``load_keywords``.
        y: which of ``labels`` was said [N].
        form: of the spectrograms.
        scores: a network's logits of ``x`` [N, labels]; without, nothing is told of what was understood.

    Raises:
        InvalidInputError: the shapes do not fit, or there is no utterance.
    """
    bands = len(form.centres_hz)
    if x.ndim != 4 or not len(x) or x.shape[1] != 1 or x.shape[3] != bands or y.shape != (len(x),):
        raise InvalidInputError(
            f"utterances are [N >= 1, 1, frames, {bands} bands] and labels [N], but got {x.shape} and {y.shape}"
        )
    if scores is not None and scores.reshape(len(scores), -1).shape != (len(x), len(labels)):
        raise InvalidInputError(f"scores are [{len(x)}, {len(labels)}], but got {scores.shape}")
    heard = None if scores is None else scores.reshape(len(x), -1).argmax(1)
    first = {int(label): row for row, label in reversed(list(enumerate(y)))}
    words = tuple(
        SpokenWord(labels[label], None if heard is None else labels[heard[first[label]]], x[first[label], 0].T)
        for label in sorted(first)
    )
    step = form.hop / form.rate_hz
    times = tuple((frame + 0.5) * step for frame in range(x.shape[2]))
    return SpeechInfo(words, times, tuple(map(float, form.centres_hz)), _finding(words))


def _finding(words: Sequence[SpokenWord]) -> str:
    if words[0].heard is None:
        many = len(words) > 1
        return f"{len(words)} words, each somewhere in a second of noise" if many else "A word in a second of noise"
    right = sum(word.heard == word.said for word in words)
    return f"{right} of {len(words)} words are understood"


def plot_speech(
    x: NDArray[np.float32], y: NDArray[np.int64], labels: Sequence[str], form: Form,
    scores: NDArray[Any] | None = None,
) -> go.Figure:  # fmt: skip
    """A spectrogram of each word; see :func:`speech_info` for what is drawn."""
    return speech_figure(speech_info(x, y, labels, form, scores))


def speech_figure(info: SpeechInfo) -> go.Figure:
    """The figure for ``info``."""
    figure = go.Figure()
    low, high = (float(pick([pick(word.picture) for word in info.words])) for pick in (np.min, np.max))
    for number, word in enumerate(info.words, 1):
        figure.add_heatmap(
            z=[theme.lists(row.tolist()) for row in word.picture],
            x=theme.lists(info.times_s),
            y=list(range(len(info.bands_hz))),
            xaxis=f"x{_id(number)}",
            yaxis=f"y{_id(number)}",
            colorscale=theme.VIRIDIS,
            zmin=low,
            zmax=high,
            showscale=False,
            customdata=[[f"{hz:,.0f} Hz"] * len(info.times_s) for hz in info.bands_hz],
            hovertemplate=f"{theme.plain(word.label)}: %{{x:.2f}} s, %{{customdata}}<extra></extra>",
        )
    wide, narrow = (_places(len(info.words), columns) for columns in (_COLUMNS, _NARROW_COLUMNS))
    for number, place in enumerate(wide, 1):
        figure.update_layout(_axes(info, number, place))
    figure.update_layout(annotations=[_name(word, number) for number, word in enumerate(info.words, 1)])
    heard = "" if info.words[0].heard is None else " ✓ and ✗: what the network understood."
    return theme.finish(
        figure,
        title=info.finding,
        subtitle=f"Time (s) across, frequency (Hz, mel scale) up; brighter is louder.{heard}",
        alt=f"{info.finding}: " + ", ".join(word.label for word in info.words) + ".",
        height=_ROW * _rows(len(info.words), _COLUMNS),
        top=28,
        narrow={
            **{path: value for number, place in enumerate(narrow, 1) for path, value in _moved(number, place)},
            "height": _ROW * _rows(len(info.words), _NARROW_COLUMNS),
        },
    )


def _rows(count: int, columns: int) -> int:
    return -(-count // columns)


class _Place(NamedTuple):
    """Where a picture is: shares of the width and of the height; first of its row, and last of its column."""

    across: list[float]
    up: list[float]
    first: bool
    last: bool


def _places(count: int, columns: int) -> list[_Place]:
    rows, places = _rows(count, columns), []
    for number in range(count):
        row, column = divmod(number, columns)
        left, top = column / columns, 1 - row / rows
        across = [left, left + 0.94 / columns]
        places.append(_Place(across, [top - 0.72 / rows, top], column == 0, number + columns >= count))
    return places


def _id(number: int) -> str:
    """What stands behind the ``x`` of an axis' name: nothing for the first."""
    return "" if number == 1 else str(number)


def _axes(info: SpeechInfo, number: int, place: _Place) -> dict[str, Any]:
    named = [np.interp(hz, info.bands_hz, range(len(info.bands_hz))) for hz in _NAMED_HZ]
    frame, mine = info.times_s[1] - info.times_s[0], _id(number)
    return {
        f"xaxis{mine}": {
            "domain": place.across, "anchor": f"y{mine}", "showticklabels": place.last, "tickvals": [0, 0.4, 0.8],
            "range": [0, frame * len(info.times_s)], "showgrid": False,
        },
        f"yaxis{mine}": {
            "domain": place.up, "anchor": f"x{mine}", "showticklabels": place.first, "tickvals": theme.lists(named),
            "ticktext": [f"{hz:,}" for hz in _NAMED_HZ], "range": [-0.5, len(info.bands_hz) - 0.5], "showgrid": False,
        },
    }  # fmt: skip


def _moved(number: int, place: _Place) -> list[tuple[str, Any]]:
    """What is another on a narrow page."""
    mine = _id(number)
    return [
        (f"xaxis{mine}.domain", place.across),
        (f"yaxis{mine}.domain", place.up),
        (f"xaxis{mine}.showticklabels", place.last),
        (f"yaxis{mine}.showticklabels", place.first),
    ]


def _name(word: SpokenWord, number: int) -> dict[str, Any]:
    """What was said, above its picture."""
    wrong = word.heard not in (None, word.said)
    return {
        "text": theme.plain(word.label), "showarrow": False,
        "xref": f"x{_id(number)} domain", "yref": f"y{_id(number)} domain",
        "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom",
        "font": {"size": 13, "color": theme.LIGHT["bad" if wrong else "text"]},
    }  # fmt: skip
