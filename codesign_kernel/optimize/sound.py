"""What happens to a word between the mouth and the microphone: its place in time, a room, noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
#: A word begins and ends where it is louder than this share of its peak.
AUDIBLE = 0.02
#: The kinds of noise: power falls with the frequency to the power of 0, 1 and 2; and other people.
NOISES = {"white": 0, "pink": 1, "brown": 2, "babble": None}
#: Coloured noise has nothing below: a microphone does not pass it on, and brown noise would be little else (Hz).
LOWEST_HZ = 50.0
#: People who talk at once in babble.
TALKERS = 4


def resampled(sound: NDArray[np.int16], rate_hz: int, wanted_hz: int) -> Float:
    """``sound`` [n] at another sampling rate, from -1 to 1: the spectrum is cut off or filled with zeros."""
    step = rate_hz // int(np.gcd(rate_hz, wanted_hz))
    whole = np.pad(sound.astype(np.float32) / 32768, (0, -len(sound) % step))
    count = len(whole) * wanted_hz // rate_hz
    spectrum = np.fft.rfft(whole)[: count // 2 + 1]
    return np.fft.irfft(spectrum, count).astype(np.float32) * np.float32(count / len(whole))


def trimmed(sound: Float) -> Float:
    """``sound`` [n] without the silence before and behind it."""
    loud = np.flatnonzero(np.abs(sound) > AUDIBLE * np.abs(sound).max(initial=0))
    return sound[loud[0] : loud[-1] + 1] if len(loud) else sound[:0]


def power(sound: Float) -> float:
    """Mean square of ``sound`` [n]; 0 of none."""
    return float(np.mean(np.square(sound))) if len(sound) else 0.0


def placed(word: Float, samples: int, rng: np.random.Generator) -> Float:
    """``word`` anywhere in ``samples`` of silence; the middle of one that is too long."""
    spare = samples - len(word)
    start = int(rng.integers(abs(spare) + 1))
    if spare < 0:
        return word[-spare // 2 :][:samples]
    return np.pad(word, (start, spare - start))


def in_a_room(sounds: Float, echo_s: Float, direct_db: Float, rate_hz: int, rng: np.random.Generator) -> Float:
    """``sounds`` [N, n] as they are heard in rooms.

    Behind the direct sound comes noise that decays exponentially: the statistical model of J.-D. Polack, "La
    transmission de l'énergie sonore dans les salles" (1988).

    Args:
        echo_s: reverberation time, in which the power falls by 60 dB [N].
        direct_db: power of the direct sound over that of all that follows [N].
    """
    count = sounds.shape[1]
    tail = int(rate_hz * float(echo_s.max(initial=0))) + 1
    seconds = np.arange(1, tail + 1, dtype=np.float32) / rate_hz
    echo = rng.standard_normal((len(sounds), tail), np.float32) * np.exp(-np.log(1e3) * seconds / echo_s[:, None])
    echo *= (10 ** (-direct_db / 20) / np.sqrt(np.square(echo).sum(1)))[:, None]
    heard = np.concatenate([np.ones((len(sounds), 1), np.float32), echo], 1)
    size = 1 << (count + tail).bit_length()
    spectrum = np.fft.rfft(sounds, size) * np.fft.rfft(heard, size)
    return np.fft.irfft(spectrum, size)[:, :count].astype(np.float32)


def noise(kinds: list[str], samples: int, rate_hz: int, babble: Float, rng: np.random.Generator) -> Float:
    """One noise of power 1 for each of ``kinds`` [N, samples].

    Args:
        kinds: keys of :data:`NOISES`.
        babble: people talking, one after the other, longer than ``samples``.
    """
    hz = np.fft.rfftfreq(samples, 1 / rate_hz)
    white = np.fft.rfft(rng.standard_normal((len(kinds), samples), np.float32))
    starts = rng.integers(len(babble) - samples, size=(len(kinds), TALKERS))
    made = np.empty((len(kinds), samples), np.float32)
    for row, kind in enumerate(kinds):
        slope = NOISES[kind]
        if slope is None:
            made[row] = sum(babble[start : start + samples] for start in starts[row])
        else:
            filtered = white[row] * (hz >= LOWEST_HZ) * np.maximum(hz, LOWEST_HZ) ** (-slope / 2)
            made[row] = np.fft.irfft(filtered, samples)
    return made / np.sqrt(np.square(made).mean(1, keepdims=True))
