"""Tools that are run to their end, unless somebody asks to stop: then they are gone with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from codesign_kernel.cosim.job import Stop, check_stop
from codesign_kernel.errors import SimulatorError

#: How often it is asked whether to stop (s).
ASKED_S = 0.1


@cache
def nothing() -> int:
    """Standard input of a tool that reads none, a file descriptor. DEVNULL is opened for writing too, which not every
    user may do: the device of some virtual machines is its owner's alone."""
    return os.open(os.devnull, os.O_RDONLY)


def finished(
    command: list[str], folder: Path, stop: Stop | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A tool run in ``folder`` to its end, with what it wrote.

    Raises:
        StoppedError: ``stop`` said so; the tool and its children have been killed.
    """
    # a compiler that is killed leaves its temporary files: they go with the folder
    environment = {**(os.environ if environment is None else environment), "TMPDIR": str(folder)}
    if stop is None:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, stdin=nothing(), env=environment
        )
    check_stop(stop)
    # a group of its own, because a compiler's driver leaves the compiler behind when it alone is killed
    with subprocess.Popen(
        command, cwd=folder, stdin=nothing(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, process_group=0,
    ) as process:  # fmt: skip
        try:
            while True:
                try:
                    out, complaints = process.communicate(timeout=ASKED_S)
                    return subprocess.CompletedProcess(command, process.returncode, out, complaints)
                except subprocess.TimeoutExpired:
                    check_stop(stop)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def call(command: list[str], folder: Path, what: str, stop: Stop | None = None) -> None:
    """Run a tool in ``folder``.

    Raises:
        SimulatorError: it ended with an error; the message has its first complaint.
        StoppedError: ``stop`` said so.
    """
    done = finished(command, folder, stop)
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip().splitlines()
        raise SimulatorError(
            f"{what} failed with exit status {done.returncode}: {complaint[0] if complaint else command[0]}"
        )
