"""The process that speaks: eSpeak NG's library through ctypes. Run as a script, with nothing but the standard library.

The library keeps the phase of its voice, its flutter and its echo from one utterance to the next, so only a fresh
process says the same samples again; and what crashes there crashes there. The interface is that of ``speak_lib.h`` and
``espeak_ng.h`` of eSpeak NG 1.52.

stdin: a JSON object with ``library`` (path), ``data`` (folder that holds ``espeak-ng-data``) and ``utterances``, a list
of [voice, text, words per minute, pitch 0-99, range of pitch 0-99]. stdout: the sampling rate as uint32, and for each
utterance the number of its samples as uint32 and the samples as int16, all little-endian. A refusal is a line on stderr
and the exit status 1.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

# speak_lib.h
OUTPUT_SYNCHRONOUS = 2
DONT_EXIT = 0x8000
POSITION_CHARACTER = 1
CHARS_UTF8 = 1
RATE, PITCH, RANGE = 1, 3, 4


class Speaker:
    """The library, ready to speak."""

    def __init__(self, path: str, data: str) -> None:
        os.chdir(data)  # the library cuts off paths of 160 characters: it is given a short one
        self._library = ctypes.CDLL(path)
        self.rate_hz = self._library.espeak_Initialize(OUTPUT_SYNCHRONOUS, 0, b".", DONT_EXIT)
        if self.rate_hz <= 0:
            sys.exit(f"eSpeak NG reads its data at {data}, but cannot; install espeakng-loader again")
        self._heard: list[bytes] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        self._callback = callback(self._hear)  # kept: the library keeps only its address
        self._library.espeak_SetSynthCallback(self._callback)

    def _hear(self, samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._heard.append(ctypes.string_at(samples, 2 * count))
        return 0

    def say(self, seed: int, voice: str, text: str, rate: int, pitch: int, spread: int) -> bytes:
        """The samples of ``text``, int16."""
        self._heard.clear()
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        if self._library.espeak_SetVoiceByName(voice.encode()):
            sys.exit(f"eSpeak NG has no voice {voice!r}")
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, spread)):
            self._library.espeak_SetParameter(parameter, value, 0)
        spoken = text.encode() + b"\0"
        size, nothing = ctypes.c_size_t(len(spoken)), ctypes.c_uint(0)
        failed = (
            self._library.espeak_Synth(spoken, size, nothing, POSITION_CHARACTER, nothing, CHARS_UTF8, None, None)
            or self._library.espeak_Synchronize()
        )
        if failed:
            sys.exit(f"eSpeak NG cannot say {text!r} with voice {voice!r}: error {failed}")
        return b"".join(self._heard)


def main() -> None:
    """Speak what stdin asks for."""
    asked = json.load(sys.stdin)
    speaker = Speaker(asked["library"], asked["data"])
    out = sys.stdout.buffer
    out.write(speaker.rate_hz.to_bytes(4, "little"))
    for seed, utterance in enumerate(asked["utterances"]):
        samples = speaker.say(seed + 1, *utterance)
        out.write((len(samples) // 2).to_bytes(4, "little"))
        out.write(samples)


if __name__ == "__main__":
    main()
