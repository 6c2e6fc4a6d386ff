"""Keyword spotting: ten words in a second of noise, spoken by eSpeak NG; voices of the test are heard nowhere else."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.cache import cached_folder, discard
from codesign_kernel.errors import InvalidInputError, OutputError
from codesign_kernel.optimize.dataset import PARTS, Dataset
from codesign_kernel.optimize.utterances import WORDS, Conditions, Settings, made

if TYPE_CHECKING:
    from torch import nn

#: So often a damaged copy in the cache is made again.
_ATTEMPTS = 3
_Progress = Callable[[int, int, str], None]


def load_keywords(
    words: Sequence[str] = WORDS,
    seed: int = 0,
    *,
    utterances: tuple[int, int, int, int] = (8000, 200, 1000, 2000),
    voices: int | None = None,
    conditions: Conditions | None = None,
    progress: _Progress | None = None,
) -> Dataset:
    """Spoken words as log-mel spectrograms of one second: [N, 1, 32 frames, 20 bands], from -1 to 1.

    Made once by the package ``espeakng-loader`` (extra ``speech``) and kept in the cache; the same arguments give the
    same data. Voices of ``validation`` and of ``test`` speak there only; ``calibration`` has the voices of ``train``
    and utterances of its own. 0 is the mean of the training part, and 1 three standard deviations of it.

    Args:
        words: the classes, at least two; single English words.
        seed: of speeds, pitches, rooms and noises, an integer >= 0.
        utterances: how many are in train, calibration, validation and test; the words take turns.
        voices: so many of each part's voices only; without, all of them.
        conditions: how the words are spoken and heard; without, ``Conditions()``.
        progress: called with (utterances made, utterances, message); not at all where the cache has them.

    Raises:
        InvalidInputError: an argument breaks its law.
        MissingPackageError: ``espeakng-loader`` is not installed.
        SpeechError: eSpeak NG failed.
        OutputError: the cache cannot be written.
    """
    _check(words, seed, utterances, voices)
    counts = dict(zip(PARTS, utterances, strict=True))
    settings = Settings(tuple(words), seed, counts, voices, conditions or Conditions())
    content = json.dumps(asdict(settings))
    for _ in range(_ATTEMPTS):
        folder = cached_folder("keywords", content, lambda folder: _write(folder, made(settings, progress)))
        kept = _read(folder)
        if kept is not None:
            return Dataset("keywords", settings.words, *(kept[f"{part}_{axis}"] for part in PARTS for axis in "xy"))
        discard(folder)
    raise OutputError(f"what is written to {folder} is read again, but {_ATTEMPTS} times it was not; check the disk")


def train_keywords(
    seed: int = 0, epochs: int | None = None, progress: _Progress | None = None, network: str = "keywords"
) -> tuple[nn.Module, Dataset, float]:
    """Train a network on ``load_keywords()``: AdamW, the learning rate falling to 0 along a cosine.

    Args:
        seed: of initial weights and of the order of the utterances; the utterances are always the same.
        epochs: passes over the training utterances, at least 1; without, as many as the network needs.
        progress: called after each epoch with (epochs done, epochs, message), and before as ``load_keywords`` does.
        network: ``keywords``, depthwise-separable convolutions with ReLU6.

    Returns:
        The network in evaluation mode, the data, and the share of the test's utterances that it gets right.

    Raises:
        InvalidInputError: ``epochs`` is not an integer >= 1, or there is no such network.
        MissingPackageError, SpeechError, OutputError: see :func:`load_keywords`.
    """
    from codesign_kernel.optimize.networks import network_of

    task = network_of(network, "keywords")
    data = load_keywords(progress=progress)
    model, right = task.train(data, seed, epochs, progress)
    return model, data, right


def _check(words: Sequence[str], seed: int, utterances: Sequence[int], voices: int | None) -> None:
    lawful = not isinstance(words, str) and all(isinstance(word, str) and word.isalpha() for word in words)
    if not lawful or len(words) < 2 or len(set(words)) < len(words):
        raise InvalidInputError(f"words are at least two different words of letters, but got {words!r}")
    if not _whole(seed, 0):
        raise InvalidInputError(f"seed is an integer >= 0, but got {seed!r}")
    if len(utterances) != len(PARTS) or not all(_whole(count, 1) for count in utterances):
        raise InvalidInputError(f"utterances are four integers >= 1, of {', '.join(PARTS)}, but got {utterances!r}")
    if voices is not None and not _whole(voices, 1):
        raise InvalidInputError(f"voices is an integer >= 1, or None for all, but got {voices!r}")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _write(folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    (folder / "data.npz").write_bytes(file.getvalue())
    (folder / "sha256").write_text(hashlib.sha256(file.getvalue()).hexdigest(), encoding="ascii")


def _read(folder: Path) -> dict[str, NDArray[Any]] | None:
    """What the cache holds, if it is what was written."""
    try:
        told, file = (folder / "sha256").read_text(encoding="ascii"), (folder / "data.npz").read_bytes()
    except (OSError, UnicodeDecodeError):
        return None
    if hashlib.sha256(file).hexdigest() != told:
        return None
    with np.load(io.BytesIO(file)) as kept:
        return dict(kept)
