"""Log-mel spectrograms: sound as a small picture of time and frequency."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


class Spectrogram(NamedTuple):
    """How sound becomes a picture of frames and bands.

    Attributes:
        rate_hz: samples a second.
        samples: of one sound.
        window: samples of a frame, weighted by a Hann window.
        hop: samples from one frame to the next; frames are as many as hops fit into the sound, each around the middle
            of its hop, and outside of the sound there is silence.
        transform: points of the Fourier transform, at least ``window``.
        bands: triangular filters, their corners equally far apart in mel.
        low_hz, high_hz: from where to where they reach.
        floor: of a band's power, in units of a full-scale sine's, so that silence has a logarithm.
    """

    rate_hz: int = 8000
    samples: int = 8000
    window: int = 320
    hop: int = 250
    transform: int = 512
    bands: int = 20
    low_hz: float = 60.0
    high_hz: float = 3800.0
    floor: float = 1e-7

    @property
    def frames(self) -> int:
        """Frames of one sound."""
        return self.samples // self.hop

    @property
    def centres_hz(self) -> NDArray[np.float64]:
        """Where each band is highest (Hz) [bands]."""
        return self._corners_hz()[1:-1]

    def _corners_hz(self) -> NDArray[np.float64]:
        low, high = mel_of_hz(np.array([self.low_hz, self.high_hz]))
        return hz_of_mel(np.linspace(low, high, self.bands + 2))

    def filters(self) -> NDArray[np.float64]:
        """Weight of each line of the spectrum in each band [transform / 2 + 1, bands], 1 at the peak."""
        corners = self._corners_hz()
        lines = np.arange(self.transform // 2 + 1)[:, None] * self.rate_hz / self.transform
        low, centre, high = corners[:-2], corners[1:-1], corners[2:]
        return np.maximum(0, np.minimum((lines - low) / (centre - low), (high - lines) / (high - centre)))

    def log_mel(self, sound: Float) -> Float:
        """Power in dB of each frame and band [N, frames, bands] of sounds [N, samples] between -1 and 1."""
        margin = (self.window - self.hop) // 2
        padded = np.pad(sound, ((0, 0), (margin, self.window)))
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.window, axis=1)[:, :: self.hop][:, : self.frames]
        weights = np.hanning(self.window + 1)[:-1].astype(np.float32)
        spectrum = np.fft.rfft(frames * weights, self.transform, axis=2)
        # a sine of amplitude 1 has the power (sum of the window / 2) ** 2 at its line
        power = (np.abs(spectrum) / (weights.sum() / 2)) ** 2
        return (10 * np.log10(power @ self.filters().astype(np.float32) + self.floor)).astype(np.float32)


def mel_of_hz(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mel scale of D. O'Shaughnessy, "Speech Communication" (1987): 2595 log10(1 + f / 700 Hz)."""
    return 2595 * np.log10(1 + hz / 700)


def hz_of_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of :func:`mel_of_hz`."""
    return 700 * (10 ** (mel / 2595) - 1)
