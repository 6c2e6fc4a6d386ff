"""The process that has the cluster: in a cell of its own, it listens on a socket that the gateway alone can reach.

``python -m codesign_kernel.server.workers.host SOCKET MOST WORKER_BYTES``. The first message of a connection is the
gateway's: what a job explores, or a question how the cluster is. Those after it are a job's, and nothing is believed.
It ends with its cell, and so do its workers, which hold nothing that anybody would miss.
"""

from __future__ import annotations

import pickle
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

from codesign_kernel.cluster import Cluster, Demand, cluster
from codesign_kernel.errors import CodesignError
from codesign_kernel.server.workers import wire
from codesign_kernel.server.workers.asked import Asked

#: Seconds between two looks at the load.
_LOOK_S = 0.5


def serve(listener: socket.socket, workers: Cluster) -> None:
    """Answer every connection in a thread of its own, for ever."""
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_answer, args=(sock, workers), daemon=True).start()


def _answer(sock: socket.socket, workers: Cluster) -> None:
    with sock:
        try:
            first = wire.receive(sock, wire.ASKED_BYTES)
            if first is None:
                return
            if "request" in first[0]:
                _work(sock, workers, first[0])
            else:
                wire.send(sock, status(workers))
        except CodesignError as error:
            _fail(sock, type(error).__name__, str(error))
        except OSError:
            return  # who asked is gone
        except Exception as error:  # the outermost edge of a connection: its job fails, the others go on
            _fail(sock, "ClusterError", f"the workers failed with {type(error).__name__}; tell the operator")
            raise


def _fail(sock: socket.socket, name: str, message: str) -> None:
    try:
        wire.send(sock, {"error": name, "message": message[:2_000]})
    except OSError:
        return


def status(workers: Cluster) -> dict[str, Any]:
    """How many workers there are, may be, and are planned; how many tasks wait and run."""
    moment = workers.moments[-1] if workers.moments else None
    waits = {"queued": moment.queued, "running": moment.running} if moment is not None else {"queued": 0, "running": 0}
    planned = moment.planned if moment is not None else workers.minimum
    return {"workers": workers.workers, "planned": planned, "most": workers.maximum, **waits}


def _work(sock: socket.socket, workers: Cluster, told: Mapping[str, Any]) -> None:
    """Evaluate what one job asks for, message by message."""
    asked, at_once = Asked(told), min(int(told["request"]["workers"]), workers.maximum)
    while (message := wire.receive(sock, wire.ASKED_BYTES)) is not None:
        function, items = asked.work(message[0])
        executor = workers.executor(at_once=at_once)
        found = executor.run(function, items)
        try:
            for position, result in found:
                wire.send(sock, {"at": position}, pickle.dumps(result))
        finally:
            found.close()
        wire.send(sock, {"end": True})


def main(path: str, most: int, worker_bytes: int) -> None:
    """Start the cluster, and answer."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        cluster(Demand(1, most), 1, most, interval_s=_LOOK_S, memory_limit=worker_bytes) as workers,
    ):
        listener.bind(path)
        listener.listen(64)
        serve(listener, workers)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
