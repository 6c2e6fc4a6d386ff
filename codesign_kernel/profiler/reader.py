"""The process that reads network files: ``python -m codesign_kernel.profiler.reader``, started by ``isolated``.

It loads torch and onnx once and then forks for every request, so that a file costs milliseconds and not seconds. The
fork limits itself (memory, processor time, no writing) before it opens the file; whatever happens to it (a crash inside
a C library, a loop, memory without end), this process sees it end, or ends it, and says so. Requests and replies are
lines of JSON on stdin and stdout. After a minute without a request it exits.
"""

from __future__ import annotations

import gc
import json
import math
import mmap
import os
import resource
import select
import signal
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from codesign_kernel.errors import CodesignError
from codesign_kernel.profiler.exported import DTYPE_NAMES, trace_graph
from codesign_kernel.profiler.model import profile, profile_of
from codesign_kernel.profiler.onnx_file import trace_onnx
from codesign_kernel.profiler.packing import pack
from codesign_kernel.profiler.pt2 import read_pt2
from codesign_kernel.profiler.result import Profile

#: Seconds without a request after which the process exits.
IDLE_SECONDS = 60
#: A reply longer than this is refused: a profile of 100,000 operators takes about 60 MiB.
REPLY_BYTES = 128 << 20


def main() -> None:
    """Answer requests until stdin ends."""
    requests, replies = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a library prints gets between the replies
    _warm()
    gc.freeze()
    replies.write('{"ready": true}\n')
    replies.flush()
    waiting = b""
    while True:
        while b"\n" not in waiting:
            if not select.select([requests], [], [], IDLE_SECONDS)[0]:
                return
            more = requests.read(1 << 16)
            if not more:
                return
            waiting += more
        line, _, waiting = waiting.partition(b"\n")
        replies.write(json.dumps(_answer(json.loads(line))) + "\n")
        replies.flush()


def _warm() -> None:
    """Load what torch loads at its first run on the meta device, so that forks need not."""
    with torch.device("meta"):
        layer = torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        profile(torch.nn.Sequential(torch.nn.Conv1d(8, 8, 1), layer), torch.zeros(1, 8, 8))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do one request in a fork, and report how that ended."""
    end = time.monotonic() + request["seconds"]
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _child(request, send)
    os.close(send)
    parts: list[bytes] = []
    late = False
    while True:
        left = end - time.monotonic()
        if left <= 0 or not select.select([receive], [], [], left)[0]:
            late = True
            break
        part = os.read(receive, 1 << 20)
        if not part or sum(map(len, parts)) > REPLY_BYTES:
            break
        parts.append(part)
    os.close(receive)
    if late:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return {"late": True}
    if os.waitstatus_to_exitcode(status):
        return {"ended": os.waitstatus_to_exitcode(status)}
    return {"reply": b"".join(parts).decode()}


def _child(request: dict[str, Any], send: int) -> None:
    """Read the file under limits, and never return."""
    code = 1
    try:
        _limit(request["memory"], request["seconds"])
        try:
            reply: dict[str, Any] = {"profile": pack(read(request))}
        except CodesignError as error:
            reply = {"error": str(error)}
        except MemoryError:
            reply = {"memory": True}
        except RuntimeError as error:  # what torch makes of std::bad_alloc
            reply = {"memory": True} if "alloc" in str(error) else {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(send, "w") as stream:
            stream.write(json.dumps(reply))
        code = 0
    finally:
        if code:  # the exit below would hide it
            traceback.print_exc()
        os._exit(code)


def _mapped() -> int:
    """Bytes of address space that this process has: the least limit under which a page more can be mapped.

    A cell of the gateway has no /proc to look it up in.
    """
    page, (soft, hard) = resource.getpagesize(), resource.getrlimit(resource.RLIMIT_AS)
    low, high = 0, 1 << 47 if hard == resource.RLIM_INFINITY else hard
    while high - low > page:
        middle = (low + high) // 2
        resource.setrlimit(resource.RLIMIT_AS, (middle, hard))
        try:
            mmap.mmap(-1, page).close()
        except (OSError, MemoryError):
            low = middle
        else:
            high = middle
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return high


def _limit(memory: int, seconds: float) -> None:
    most = _mapped() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    cpu = math.ceil(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def read(request: dict[str, Any]) -> Profile:
    """The profile of the file that a request names, in this process."""
    path = Path(request["path"])
    given = request["given"]
    if request["kind"] == ".onnx":
        tensors = {k: _tensor(v) for k, v in given.items()} if isinstance(given, dict) else [_tensor(v) for v in given]
        return profile_of(*trace_onnx(path, tensors), request["name"])
    return profile_of(*trace_graph(read_pt2(path), [_tensor(v) for v in given]), request["name"])


def _tensor(stated: list[Any]) -> torch.Tensor:
    shape, dtype = stated
    return torch.empty(shape, dtype=DTYPE_NAMES[dtype], device="meta")


if __name__ == "__main__":
    main()
