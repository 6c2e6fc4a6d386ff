"""The ``codesign`` command. Exit status: 0 done, 1 a proof failed, 2 bad input, 130 interrupted.

Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence

from codesign_kernel.cli.output import plain
from codesign_kernel.cli.parser import build_parser
from codesign_kernel.cli.progress import Progress
from codesign_kernel.errors import CodesignError

__all__ = ["main"]

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
#: What a shell reports for a command ended by SIGPIPE: the reader of our output has gone.
READER_GONE = 141


def _run(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    try:
        from codesign_kernel.cli.commands import COMMANDS

        with Progress(sys.stderr) as progress:
            answer = COMMANDS[args.command](args, progress)
    except CodesignError as error:
        print(f"codesign {args.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    print(json.dumps(plain(answer.body), allow_nan=False, indent=2) if args.json else answer.text)
    return 0 if answer.passed else FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return its exit status.

    Raises:
        SystemExit: from ``--help``, ``--version`` and arguments that do not parse.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without µ or ² still gets the rest
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()  # here, where a reader that has gone or a full disk can still be told
    except KeyboardInterrupt:
        print("codesign: interrupted; no half-written result is left behind", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        # the interpreter flushes stdout once more as it ends; let that go nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return READER_GONE
        print(f"codesign: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
