"""Utterances of keywords: who says them, how, what is around them, and the pictures that come of it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize import espeak, sound
from codesign_kernel.optimize.dataset import PARTS
from codesign_kernel.optimize.espeak import Utterance
from codesign_kernel.optimize.features import Spectrogram

Float = NDArray[np.float32]


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: The core words of Speech Commands (P. Warden 2018, arXiv 1804.03209) that steer something.
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
#: Its other words: what the people in the background say.
OTHER_WORDS = _names("bed bird cat dog happy house marvin sheila tree wow zero one two three four five six")
#: How English sounds in eight places: languages of eSpeak NG.
ACCENTS = _names(
    "gmw/en gmw/en-029 gmw/en-GB-scotland gmw/en-GB-x-gbclan gmw/en-GB-x-gbcwmd gmw/en-GB-x-rp gmw/en-US gmw/en-US-nyc"
)
#: Who speaks: variants of eSpeak NG, without its robots and whisperers. Those that are half alike, line by line of
#: their definitions, are in one part.
VOICES = {
    "train": _names(
        "m1 m4 m6 f1 f5 Alex Alicia Andrea Andy AnxiousAndy Annie Denis Diogo Henrique Hugo michel miguel Jacky Lee "
        "Marco Mike mike2 john norbert Tweaky Reed RicishayMax RicishayMax2 RicishayMax3 max adam antonio belinda "
        "benjamin caleb croak david grandma ian iven iven2 iven3 iven4 klatt klatt2 klatt3 klatt4 klatt5 klatt6 pablo "
        "paul quincy rob steph steph2 steph3 travis zac"
    ),
    "validation": _names("m3 m7 m8 f3 Nguyen boris marcelo sandro Gene Gene2 linda robert"),
    "test": _names(
        "m2 m5 f2 f4 aunty Storm announcer anika grandpa kaukovalta Mario Michael gustave edward edward2 shelby "
        "pedro ed"
    ),
}
#: What the microphone makes of it.
SPECTROGRAM = Spectrogram()
#: Utterances that are made at once.
_CHUNK = 250
#: Of the babble (s).
_BABBLE_S = 60
#: Standard deviations of the training part that become 1; what is beyond is cut off.
_REACH = 3.0
#: What eSpeak NG takes, and rooms from a telephone box to a cathedral (s).
_LIMITS: dict[str, tuple[float, float]] = {
    "speed_wpm": (espeak.SLOWEST_WPM, espeak.FASTEST_WPM),
    "pitch": (0, espeak.HIGHEST),
    "spread": (0, espeak.HIGHEST),
    "echo_s": (0.01, 10),
}
#: What eSpeak NG takes as integers.
_WHOLE = frozenset({"speed_wpm", "pitch", "spread"})


@dataclass(frozen=True)
class Conditions:
    """How words are spoken and heard; of a pair of bounds, every value between them is as likely.

    Attributes:
        speed_wpm: speed of speech (words a minute).
        pitch: of the voice, 0 to 99, where 50 is its own.
        spread: how far its pitch moves, 0 to 99, where 50 is its own.
        snr_db: power of the word over that of the noise, which is white, pink, brown or babble.
        echo_s: reverberation time of the room (s).
        direct_db: power of the direct sound over that of the echo.
        gain_db: loudness of all of it, 0 where its peak is the largest number.

    Raises:
        InvalidInputError: bounds are not in order, or beyond what eSpeak NG or a room can do.
    """

    speed_wpm: tuple[int, int] = (130, 220)
    pitch: tuple[int, int] = (20, 80)
    spread: tuple[int, int] = (10, 90)
    snr_db: tuple[float, float] = (10.0, 30.0)
    echo_s: tuple[float, float] = (0.05, 0.3)
    direct_db: tuple[float, float] = (0.0, 15.0)
    gain_db: tuple[float, float] = (-12.0, 0.0)

    def __post_init__(self) -> None:
        for name, bounds in asdict(self).items():
            kind = numbers.Integral if name in _WHOLE else numbers.Real
            pair = isinstance(bounds, (tuple, list)) and len(bounds) == 2
            if not pair or not all(isinstance(b, kind) and math.isfinite(b) for b in bounds) or bounds[0] > bounds[1]:
                what = "integers" if name in _WHOLE else "finite numbers"
                raise InvalidInputError(f"{name} is two {what} in order, but got {bounds!r}")
            low, high = bounds
            least, most = _LIMITS.get(name, (-np.inf, np.inf))
            if low < least or high > most:
                raise InvalidInputError(f"{name} lies between {least} and {most}, but got {(low, high)}")


@dataclass(frozen=True)
class Settings:
    """All that decides what the data are."""

    words: tuple[str, ...]
    seed: int
    utterances: dict[str, int]
    voices: int | None
    conditions: Conditions
    spectrogram: Spectrogram = SPECTROGRAM
    espeak: str = field(default_factory=espeak.version)
    form: int = 1  # to be raised when the code below makes something else of the same settings

    def voices_of(self, part: str) -> tuple[str, ...]:
        return VOICES["train" if part == "calibration" else part][: self.voices]


def made(settings: Settings, progress: Callable[[int, int, str], None] | None) -> dict[str, NDArray[Any]]:
    """The arrays of a :class:`Dataset`, by name."""
    babble = _babble(settings)
    arrays: dict[str, NDArray[Any]] = {}
    done, total = 0, sum(settings.utterances.values())
    for number, part in enumerate(PARTS):
        labels = np.arange(settings.utterances[part], dtype=np.int64) % len(settings.words)
        pictures = np.empty((len(labels), settings.spectrogram.frames, settings.spectrogram.bands), np.float32)
        for at in range(0, len(labels), _CHUNK):
            some = slice(at, at + _CHUNK)
            pictures[some] = _chunk(settings, part, labels[some], babble, [settings.seed, number, at])
            done += len(labels[some])
            if progress is not None:
                progress(done, total, "speaking keywords")
        arrays[f"{part}_x"], arrays[f"{part}_y"] = pictures[:, None], labels
    centre, reach = arrays["train_x"].mean(), _REACH * arrays["train_x"].std()
    for part in PARTS:
        arrays[f"{part}_x"] = np.clip((arrays[f"{part}_x"] - centre) / reach, -1, 1).astype(np.float32)
    return arrays


def _spoken(settings: Settings, voices: Sequence[str], texts: Sequence[str], rng: np.random.Generator) -> list[Float]:
    """Each of ``texts`` by one of ``voices``, without the silence around it."""

    def some(bounds: tuple[int, int]) -> list[int]:
        return rng.integers(bounds[0], bounds[1] + 1, size=len(texts)).tolist()

    who = [
        f"{accent}+{voice}"
        for accent, voice in zip(rng.choice(ACCENTS, len(texts)), rng.choice(voices, len(texts)), strict=True)
    ]
    heard = settings.conditions
    said = zip(who, texts, some(heard.speed_wpm), some(heard.pitch), some(heard.spread), strict=True)
    rate_hz, samples = espeak.speak([Utterance(*one) for one in said])
    wanted = settings.spectrogram.rate_hz
    return [sound.trimmed(sound.resampled(one, rate_hz, wanted)) for one in samples]


def _babble(settings: Settings) -> Float:
    """Training voices that say other words, one after the other."""
    rng = np.random.default_rng([settings.seed, len(PARTS)])
    others = [word for word in OTHER_WORDS if word not in settings.words]
    texts = rng.choice(others, 2 * _BABBLE_S).tolist()
    clips = [clip for clip in _spoken(settings, settings.voices_of("train"), texts, rng) if sound.power(clip)]
    return np.concatenate([clip / np.sqrt(sound.power(clip)) for clip in clips]).astype(np.float32)


def _chunk(settings: Settings, part: str, labels: NDArray[np.int64], babble: Float, seed: list[int]) -> Float:
    """Log-mel spectrograms of some utterances (dB) [N, frames, bands]."""
    rng, heard, form = np.random.default_rng(seed), settings.conditions, settings.spectrogram

    def some(bounds: tuple[float, float]) -> Float:
        return rng.uniform(*bounds, size=len(labels)).astype(np.float32)

    clips = _spoken(settings, settings.voices_of(part), [settings.words[label] for label in labels], rng)
    clips = [clip / np.float32(np.sqrt(sound.power(clip))) for clip in clips]
    x = np.stack([sound.placed(clip, form.samples, rng) for clip in clips])
    x = sound.in_a_room(x, some(heard.echo_s), some(heard.direct_db), form.rate_hz, rng)
    kinds = rng.choice(list(sound.NOISES), len(labels)).tolist()
    x += sound.noise(kinds, form.samples, form.rate_hz, babble, rng) * 10 ** (-some(heard.snr_db)[:, None] / 20)
    x *= 10 ** (some(heard.gain_db)[:, None] / 20) / np.abs(x).max(1, keepdims=True)
    return form.log_mel(x)
