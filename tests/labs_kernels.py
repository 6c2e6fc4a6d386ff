"""Kernels that start in a tenth of the time: forks of one process that has loaded what labs and lessons load.

Grading runs some fifty notebooks, each in a kernel of its own, and most of the time of a kernel goes into imports that
are the same for all. So ``serve`` loads them once; a kernelspec called python3 tells Jupyter to start ``launch``, a
small process that asks for a fork, passes signals on, and ends with it. What runs in a fork is ipykernel as ever:
nothing that a notebook does is seen by another.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

#: Imported, and not used, before the first fork.
LOADED = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "IPython.core.completer",
    "numpy",
    "numba.core.typing.cffi_utils",
    "pandas",
    "pyarrow.dataset",
    "sklearn.datasets",
    "torch",
    "plotly.io",
    "plotly.graph_objects",
    "codesign_kernel.cosim.wavefront",
    "codesign_kernel.cost.compiled",
    "codesign_kernel.cost.evaluate",
    "codesign_kernel.explore.optuna_samplers",
    "codesign_kernel.figures",
    "codesign_kernel.optimize.digits",
    "codesign_kernel.optimize.qat",
    "codesign_kernel.optimize.quantizer",
    "codesign_kernel.profiler.trace",
    "codesign_kernel.profiler.zoo",
    "codesign_kernel.session.explore",
    "codesign_kernel.session.generation",
    "codesign_kernel.session.steps",
    "codesign_widgets",
    "moocore",
    "optuna",
    "sympy",
    "torch._dynamo",
    "torch._functorch.aot_autograd",
    "torch.export",
    "torch.fx.experimental.symbolic_shapes",
)


def write_spec(folder: Path, address: Path) -> None:
    """A kernelspec below ``folder``, which belongs into JUPYTER_PATH, whose kernels come from ``address``."""
    place = folder / "kernels" / "python3"
    place.mkdir(parents=True)
    argv = [sys.executable, "-S", "-E", __file__, "launch", str(address), "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (place / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")


def launch(address: str, *arguments: str) -> None:
    """Stand in for a kernel: ask for one, pass on interrupts, end when it ends; if this is killed, it is killed too."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(address)
    job = {"arguments": ["-f", *arguments], "folder": os.getcwd(), "environment": dict(os.environ)}
    client.sendall(json.dumps(job).encode() + b"\n")
    pid = int(client.recv(32))
    signal.signal(signal.SIGINT, lambda *_: os.kill(pid, signal.SIGINT))
    while client.recv(32):  # it says nothing more: this waits for its end
        pass


def serve(address: str) -> None:
    """Load, say so on standard output, and fork until standard input ends."""
    import importlib
    import selectors

    for name in LOADED:
        importlib.import_module(name)
    _use()
    gc.collect()
    gc.freeze()  # what is loaded stays: no kernel walks it, and its pages are copied into none
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    ends, tells = os.pipe()
    os.set_blocking(tells, False)
    signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    print("ready", flush=True)
    kernels: dict[int, socket.socket] = {}
    watched = selectors.DefaultSelector()
    for one in (sys.stdin.fileno(), listener.fileno(), ends):
        watched.register(one, selectors.EVENT_READ)
    while True:
        for key, _ in watched.select():
            if key.fd == sys.stdin.fileno():
                for pid in kernels:
                    os.kill(pid, signal.SIGKILL)
                return
            if key.fd == listener.fileno():
                client, _ = listener.accept()
                pid = _fork(json.loads(client.makefile().readline()), [*kernels.values(), listener, client])
                client.sendall(str(pid).encode())
                kernels[pid] = client
                watched.register(client, selectors.EVENT_READ, pid)
            elif key.fd == ends:
                os.read(ends, 512)
                _reap(kernels, watched)
            elif key.data in kernels:  # the launcher is gone
                os.kill(key.data, signal.SIGKILL)
                watched.unregister(key.fileobj)


def _use() -> None:
    """Cost one layer: Numba loads what it has compiled, or compiles it, when it is first called."""
    import codesign_kernel as ck

    network = ck.Workload("warm", (ck.Layer("layer", "linear", B=8, K=8, C=8),))
    ck.evaluate(network, ck.SpatialArray(4, 4, dataflow="ws"))


def _reap(kernels: dict[int, socket.socket], watched: Any) -> None:
    """Tell the launchers of the kernels that have ended."""
    for pid in [pid for pid in kernels if os.waitpid(pid, os.WNOHANG)[0]]:
        client = kernels.pop(pid)
        if client.fileno() in watched.get_map():
            watched.unregister(client)
        client.close()


def _fork(job: dict[str, Any], sockets: list[socket.socket]) -> int:
    """The pid of a new kernel."""
    pid = os.fork()
    if pid:
        return pid
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for one in sockets:
        one.close()
    os.dup2(2, 1)  # nobody reads the output of the server any more
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    os.environ.pop("JPY_PARENT_PID", None)  # the launcher is no parent; what happens if it ends is seen to above
    from ipykernel.kernelapp import IPKernelApp

    try:
        IPKernelApp.launch_instance(argv=job["arguments"])
    finally:
        os._exit(0)


if __name__ == "__main__":
    {"launch": launch, "serve": serve}[sys.argv[1]](*sys.argv[2:])
