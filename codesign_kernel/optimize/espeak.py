"""Speech from eSpeak NG, the same samples every time; needs the extra ``speech``, which is ``espeakng-loader``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.errors import InvalidInputError, MissingPackageError, SpeechError

_PACKAGE = "espeakng-loader"
_PROCESS = Path(__file__).with_name("espeak_process.py")
#: A word takes about a millisecond.
_TIMEOUT_S = 300
#: Bounds that the library cuts to without a word (speak_lib.h).
SLOWEST_WPM, FASTEST_WPM = 80, 450
HIGHEST = 99


class Utterance(NamedTuple):
    """What to say, and how.

    Attributes:
        voice: a language of eSpeak NG and a variant, like ``gmw/en-US+f2``.
        text: what to say.
        speed_wpm: 80 to 450 (words a minute); 175 is usual.
        pitch: 0 to 99; 50 is the voice's own.
        spread: how far the pitch moves, 0 to 99; 50 is the voice's own.
    """

    voice: str
    text: str
    speed_wpm: int = 175
    pitch: int = 50
    spread: int = 50


def version() -> str:
    """The release of the package that speaks.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise _missing() from error


def speak(utterances: Sequence[Utterance]) -> tuple[int, list[NDArray[np.int16]]]:
    """The sampling rate (Hz) and the samples of each utterance; equal for equal ``utterances`` as a whole.

    The library runs in a process of its own, because it carries its state from one utterance to the next.

    Raises:
        InvalidInputError: an utterance breaks its law.
        MissingPackageError: ``espeakng-loader`` is not installed.
        SpeechError: the library failed, or has no such voice.
    """
    for one in utterances:
        _check(one)
    try:
        import espeakng_loader
    except ImportError as error:
        raise _missing() from error
    asked = {
        "library": espeakng_loader.get_library_path(),
        "data": str(Path(espeakng_loader.get_data_path()).parent),
        "utterances": list(utterances),
    }
    # -I: neither the environment nor the folder of the script changes what it imports
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_PROCESS)],
            input=json.dumps(asked).encode(), capture_output=True, timeout=_TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise SpeechError(
            f"{len(utterances)} utterances take seconds, but eSpeak NG had not spoken them after {_TIMEOUT_S} s; try "
            "again on a machine that is less busy"
        ) from error
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        died = f"eSpeak NG ended with status {done.returncode}; install {_PACKAGE} again"
        raise SpeechError(told[-1] if told else died)
    return _samples(done.stdout, len(utterances))


def _check(one: Utterance) -> None:
    laws = (
        ("speed_wpm", SLOWEST_WPM, FASTEST_WPM),
        ("pitch", 0, HIGHEST),
        ("spread", 0, HIGHEST),
    )
    for name, low, high in laws:
        value = getattr(one, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidInputError(f"{name} of an utterance is an integer of {low} to {high}, but got {value!r}")
    if not one.text.strip() or "\0" in one.text:
        raise InvalidInputError(f"an utterance says something, but got the text {one.text!r}")


def _samples(said: bytes, count: int) -> tuple[int, list[NDArray[np.int16]]]:
    """What the process wrote, apart."""
    words: list[NDArray[np.int16]] = []
    rate_hz, at = int.from_bytes(said[:4], "little"), 4
    for _ in range(count):
        end = at + 4 + 2 * int.from_bytes(said[at : at + 4], "little")
        words.append(np.frombuffer(said[at + 4 : end], "<i2"))
        at = end
    return rate_hz, words


def _missing() -> MissingPackageError:
    return MissingPackageError(
        f"speech comes from the package {_PACKAGE}, which is not installed; pip install 'codesign-playground[speech]'"
    )
