"""Speech that is made here: mel filters and spectrograms by brute force, noises, rooms, and eSpeak NG itself."""

from __future__ import annotations

import builtins
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from codesign_kernel.errors import InvalidInputError, MissingPackageError, SpeechError
from codesign_kernel.optimize import espeak, sound
from codesign_kernel.optimize.espeak import Utterance, speak
from codesign_kernel.optimize.features import Spectrogram, hz_of_mel, mel_of_hz
from codesign_kernel.optimize.utterances import ACCENTS, SPECTROGRAM, VOICES

SMALL = Spectrogram(rate_hz=800, samples=100, window=32, hop=20, transform=64, bands=5, low_hz=50, high_hz=390)


class TestFeatures:
    def test_the_mel_scale(self) -> None:
        assert mel_of_hz(np.array([0.0, 700.0, 1000.0])) == pytest.approx([0, 781.17, 999.99], abs=0.005)
        hz = np.array([20.0, 440.0, 3999.0])
        assert hz_of_mel(mel_of_hz(hz)) == pytest.approx(hz)

    def test_filters_are_triangles_between_points_equally_far_apart_in_mel(self) -> None:
        low, high = (2595 * np.log10(1 + hz / 700) for hz in (50, 390))
        points = [700 * (10 ** ((low + (high - low) * i / 6) / 2595) - 1) for i in range(7)]
        wanted = np.zeros((33, 5))
        for line, band in itertools.product(range(33), range(5)):
            hz, (left, centre, right) = line * 12.5, points[band : band + 3]
            if left < hz <= centre:
                wanted[line, band] = (hz - left) / (centre - left)
            elif centre < hz < right:
                wanted[line, band] = (right - hz) / (right - centre)
        assert np.allclose(SMALL.filters(), wanted, atol=1e-12)
        assert SMALL.centres_hz == pytest.approx(points[1:-1])

    def test_neighbours_share_every_line_and_none_is_empty(self) -> None:
        form, filters = SPECTROGRAM, SPECTROGRAM.filters()
        hz = np.arange(257) * form.rate_hz / form.transform
        between = (hz >= form.centres_hz[0]) & (hz <= form.centres_hz[-1])
        assert np.allclose(filters[between].sum(1), 1)
        assert filters.sum(0).min() > 1

    def test_a_spectrogram_by_brute_force(self) -> None:
        x = np.random.default_rng(0).uniform(-1, 1, (2, 100)).astype(np.float32)
        found = SMALL.log_mel(x)
        assert (found.shape, found.dtype, SMALL.frames) == ((2, 5, 5), np.float32, 5)
        window = np.array([0.5 - 0.5 * np.cos(2 * np.pi * i / 32) for i in range(32)])
        for row, frame in itertools.product(range(2), range(5)):
            start = 20 * frame - 6  # the window of 32 reaches 6 samples over each end of the hop
            part = np.array([x[row, i] if 0 <= i < 100 else 0.0 for i in range(start, start + 32)]) * window
            power = [
                abs(sum(part[i] * np.exp(-2j * np.pi * line * i / 64) for i in range(32)) / 8) ** 2
                for line in range(33)
            ]
            wanted = 10 * np.log10(np.array(power) @ SMALL.filters() + 1e-7)
            assert np.allclose(found[row, frame], wanted, atol=1e-3)

    def test_a_sine_is_in_its_band(self) -> None:
        times = np.arange(SPECTROGRAM.samples) / SPECTROGRAM.rate_hz
        sines = np.sin(2 * np.pi * SPECTROGRAM.centres_hz[:, None] * times).astype(np.float32)
        assert np.array_equal(SPECTROGRAM.log_mel(sines)[:, 16].argmax(1), np.arange(SPECTROGRAM.bands))
        assert SPECTROGRAM.log_mel(np.zeros((1, 8000), np.float32)) == pytest.approx(-70)


class TestSound:
    def test_a_sine_at_another_rate(self) -> None:
        at = [np.sin(2 * np.pi * 440 * np.arange(rate) / rate) for rate in (22050, 8000)]
        found = sound.resampled((at[0] * 32767).astype(np.int16), 22050, 8000)
        assert len(found) == 8000
        assert np.abs(found - at[1]).max() < 1e-3

    def test_what_the_new_rate_cannot_carry_is_cut_off(self) -> None:
        high = np.sin(2 * np.pi * 5000 * np.arange(22050) / 22050)
        assert np.abs(sound.resampled((high * 32767).astype(np.int16), 22050, 8000)).max() < 1e-3

    def test_silence_around_a_word_goes(self) -> None:
        word = np.array([0, 0.001, 0.5, 0, -1, 0.001, 0], np.float32)
        assert sound.trimmed(word).tolist() == [0.5, 0, -1]
        assert len(sound.trimmed(np.zeros(9, np.float32))) == 0
        assert (sound.power(np.array([1, -3], np.float32)), sound.power(np.zeros(0, np.float32))) == (5, 0)

    def test_a_word_lies_whole_in_its_second(self) -> None:
        rng, word = np.random.default_rng(1), np.arange(1, 4, dtype=np.float32)
        starts = set()
        for _ in range(99):
            x = sound.placed(word, 8, rng)
            (start,) = np.flatnonzero(x == 1)
            assert (len(x), x.sum(), x[start : start + 3].tolist()) == (8, 6, [1, 2, 3])
            starts.add(int(start))
        assert starts == set(range(6))
        assert sound.placed(np.arange(9, dtype=np.float32), 3, rng).tolist() == [3, 4, 5]

    def test_an_echo_has_its_power_and_its_decay(self) -> None:
        count, rng = 200, np.random.default_rng(2)
        x = np.zeros((count, 8000), np.float32)
        x[:, 0] = 1
        seconds, direct = np.full(count, 0.4, np.float32), np.full(count, 6.0, np.float32)
        heard = sound.in_a_room(x, seconds, direct, 8000, rng)
        assert heard[:, 0] == pytest.approx(1, abs=1e-5)
        assert np.square(heard[:, 1:]).sum(1) == pytest.approx(10**-0.6, rel=1e-4)
        early, late = (np.square(heard[:, start : start + 320]).sum() for start in (1, 1601))
        assert early / late == pytest.approx(1e3, rel=0.1)  # 30 dB in half the time of 60

    @pytest.mark.parametrize(("kind", "slope"), [("white", 0), ("pink", 1), ("brown", 2)])
    def test_noise_has_its_colour(self, kind: str, slope: int) -> None:
        x = sound.noise([kind] * 50, 8000, 8000, np.ones(9000, np.float32), np.random.default_rng(3))
        assert np.square(x).mean(1) == pytest.approx(1, rel=1e-4)
        power = np.square(np.abs(np.fft.rfft(x))).mean(0)  # a line each Hz
        octaves = [power[hz : 2 * hz].mean() for hz in (125, 250, 500, 1000)]
        assert np.diff(np.log2(octaves)) == pytest.approx(-slope, abs=0.1)

    def test_babble_is_people(self) -> None:
        talk = np.sin(np.arange(9000) / 3).astype(np.float32)
        x = sound.noise(["babble"], 8000, 8000, talk, np.random.default_rng(4))
        assert np.square(x).mean() == pytest.approx(1)
        assert np.abs(np.fft.rfft(x[0])).argmax() == pytest.approx(8000 / (2 * np.pi * 3), abs=1)


class TestEspeak:
    def test_it_says_the_same_again(self) -> None:
        said = [Utterance("gmw/en-US+f2", "yes"), Utterance("gmw/en+m3", "stop", 220, 30, 80)]
        (rate_hz, first), (_, second) = speak(said), speak(said)
        assert rate_hz == 22050
        assert [len(word) for word in first] == [len(word) for word in second]
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
        assert all(0.2 < len(word) / rate_hz < 1 and np.abs(word.astype(int)).max() > 3000 for word in first)

    def test_speed_and_voice_are_heard(self) -> None:
        slow, fast, other = speak([Utterance("gmw/en", "left", 100), Utterance("gmw/en", "left", 300),
                                   Utterance("gmw/en+f1", "left", 100)])[1]  # fmt: skip
        assert len(slow) > 1.5 * len(fast)
        assert not np.array_equal(slow[:4000], other[:4000])

    def test_every_voice_of_the_task_speaks(self) -> None:
        names = [name for part in VOICES.values() for name in part]
        assert len(set(names)) == len(names) == 88
        said = speak([Utterance(f"{accent}+{name}", "go") for accent in ACCENTS for name in names])[1]
        assert min(np.abs(word.astype(int)).max() for word in said) > 1000

    def test_no_voice_is_half_one_of_another_part(self) -> None:
        import espeakng_loader

        folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"

        def lines(name: str) -> set[str]:
            text = re.sub(r"(//|#).*", "", (folder / name).read_text(encoding="latin-1"))
            found = {" ".join(line.split()) for line in text.splitlines()}
            return {line for line in found if line and line.split()[0] not in ("language", "name", "gender")}

        known = {name: lines(name) for part in VOICES.values() for name in part}
        for one, other in itertools.combinations(VOICES, 2):
            for a, b in itertools.product(VOICES[one], VOICES[other]):
                assert len(known[a] & known[b]) < 0.5 * len(known[a] | known[b]), (a, b)

    def test_an_unknown_voice_is_told(self) -> None:
        with pytest.raises(SpeechError, match=r"eSpeak NG has no voice 'gmw/elvish\+f1'"):
            speak([Utterance("gmw/elvish+f1", "yes")])

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            (Utterance("gmw/en", "yes", 79), "speed_wpm of an utterance is an integer of 80 to 450, but got 79"),
            (Utterance("gmw/en", "yes", 175, 100), "pitch of an utterance is an integer of 0 to 99, but got 100"),
            (Utterance("gmw/en", "yes", 175, 50, 0.5), "spread of an utterance is an integer"),  # type: ignore[arg-type]
            (Utterance("gmw/en", " "), "says something"),
        ],
    )
    def test_utterances_that_break_a_law(self, said: Utterance, told: str) -> None:
        with pytest.raises(InvalidInputError, match=told):
            speak([said])

    def test_a_process_that_dies_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        dying = tmp_path / "dying.py"
        dying.write_text("raise SystemExit(3)")
        monkeypatch.setattr(espeak, "_PROCESS", dying)
        with pytest.raises(SpeechError, match="ended with status 3; install espeakng-loader again"):
            speak([Utterance("gmw/en", "yes")])

    def test_a_library_without_its_data_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        import espeakng_loader

        monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path / "espeak-ng-data"))
        with pytest.raises(SpeechError, match=r"reads its data at .*, but cannot; install espeakng-loader again"):
            speak([Utterance("gmw/en", "yes")])

    def test_without_the_package_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def without(name: str, *rest: object) -> object:
            if name == "espeakng_loader":
                raise ImportError(name)
            return real(name, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(MissingPackageError, match=r"pip install 'codesign-playground\[speech\]'"):
            speak([Utterance("gmw/en", "yes")])
