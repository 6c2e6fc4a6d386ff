"""Visitors at once: each signs in, opens the profiler, drives it as its page does, and leaves.

    python benchmarks/visitors.py [--visitors 20] [--turns 30] [--config FILE] [--tabs]

A gateway as ``codesign serve`` starts it, with its own defaults, in a folder of its own. A visitor is a person of their
own with a cookie, real HTTP and the kernel's websocket in the protocol of the page. Who finds no place gets the waiting
room (503 with Retry-After) and asks again when it says so, as the page does by itself. Anything else that is not a page
is an error. With ``--tabs`` each visitor is a tab of a headless Chromium, which loads, draws and drives the real page.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import tabs
from websockets.asyncio.client import ClientConnection, connect

ROOT = Path(__file__).parent.parent
PROTOCOL = "v1.kernel.websocket.jupyter.org"
KERNEL = re.compile(r'"kernelId": ?"([0-9a-f-]{36})"')
#: Seconds that a visitor waits for a place, and for an answer of a widget.
PATIENCE_S, ANSWER_S = 900.0, 60.0
#: Seconds between two things that a visitor does.
PAUSE_S = 0.5
#: That a visitor chooses.
NETWORKS = ("mobilenet_v2", "resnet18")


def frame(kind: str, content: dict[str, Any]) -> bytes:
    """A message of the page to its kernel."""
    header = {"msg_id": os.urandom(8).hex(), "msg_type": kind, "session": "s", "username": "", "version": "5.4"}
    parts = [b"shell", *(json.dumps(one).encode() for one in (header, {}, {"version": "1.0.0"}, content))]
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return b"".join(n.to_bytes(8, "little") for n in (len(offsets), *offsets)) + b"".join(parts)


def parts_of(data: bytes) -> list[bytes]:
    """Channel, header, parent, metadata, content and buffers of a message of the kernel."""
    count = int.from_bytes(data[:8], "little")
    offsets = [int.from_bytes(data[8 * i : 8 * i + 8], "little") for i in range(1, count + 1)]
    return [data[a:b] for a, b in itertools.pairwise(offsets)]


class Seen:
    """What the visitors met."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.opened_s: list[float] = []
        self.asked_s: list[float] = []
        self.answered_s: list[float] = []
        self.waited = 0
        self.impolite = 0
        self.errors: list[str] = []


async def admitted(http: httpx.AsyncClient, seen: Seen) -> str:
    """The kernel of a page of the app, when there was a place."""
    began, waited = time.perf_counter(), False
    while time.perf_counter() - began < PATIENCE_S:
        asked = time.perf_counter()
        answer = await http.get("apps/profiler")
        seen.statuses[str(answer.status_code)] += 1
        if answer.status_code == 200:
            seen.opened_s.append(time.perf_counter() - asked)
            seen.asked_s.append(time.perf_counter() - began)
            found = KERNEL.search(answer.text)
            if found is None:
                raise RuntimeError("a page without a kernel")
            return found[1]
        if answer.status_code not in (429, 503) or "Retry-After" not in answer.headers:
            seen.impolite += 1
            raise RuntimeError(f"status {answer.status_code}: {answer.text[:200]}")
        seen.waited += not waited
        waited = True
        await asyncio.sleep(float(answer.headers["Retry-After"]))
    raise RuntimeError(f"no place in {PATIENCE_S:g} s")


async def until(ws: ClientConnection, holds: Any) -> Any:
    """The first message for which ``holds`` returns something."""
    async with asyncio.timeout(ANSWER_S):
        while True:
            parts = parts_of(bytes(await ws.recv(decode=False)))
            if found := holds(json.loads(parts[1])["msg_type"], json.loads(parts[4])):
                return found


async def driven(ws: ClientConnection, turns: int, seen: Seen) -> None:
    """Choose another network of the profiler, again and again, as its page asks; each answer is waited for.

    The choice profiles the network and draws every part of the app anew.
    """
    await ws.send(frame("comm_open", {"target_name": "jupyter.widget.control", "comm_id": "c", "data": {}}))
    await ws.send(frame("comm_msg", {"comm_id": "c", "data": {"method": "request_states"}}))
    widgets = await until(ws, lambda kind, content: kind == "comm_msg" and content.get("data", {}).get("states"))
    sources = [n for n, one in widgets.items() if str(one["state"].get("_anywidget_id", "")).endswith(".ModelSource")]
    if not sources:
        raise RuntimeError("an app without a list of networks")
    for turn in range(1, turns + 1):
        await asyncio.sleep(PAUSE_S)
        query = {"network": NETWORKS[turn % len(NETWORKS)], "seq": turn}

        def answered(kind: str, content: dict[str, Any], turn: int = turn) -> Any:
            if kind == "error":
                raise RuntimeError("the app failed")
            if content.get("comm_id") != sources[0]:
                return None
            answer = content.get("data", {}).get("state", {}).get("answer") or {}
            return answer if answer.get("seq") == turn else None

        began = time.perf_counter()
        data = {"method": "update", "state": {"query": query}, "buffer_paths": []}
        await ws.send(frame("comm_msg", {"comm_id": sources[0], "data": data}))
        answer = await until(ws, answered)
        if answer["error"]:
            raise RuntimeError(f"the app refused: {answer['error']}")
        seen.answered_s.append(time.perf_counter() - began)


async def visit(url: str, cookies: dict[str, str], turns: int, seen: Seen) -> None:
    """One visitor, from the gallery to the door."""
    try:
        async with httpx.AsyncClient(base_url=url, cookies=cookies, timeout=PATIENCE_S, trust_env=False) as http:
            http.headers["Accept"] = "text/html"
            (await http.get("")).raise_for_status()
            kernel = await admitted(http, seen)
            cookie = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
            address = f"{url.replace('http', 'ws', 1)}api/kernels/{kernel}/channels?session_id={os.urandom(8).hex()}"
            async with connect(
                address, additional_headers={"Cookie": cookie}, origin=url.rstrip("/"), subprotocols=[PROTOCOL],
                max_size=None, proxy=None, open_timeout=ANSWER_S,
            ) as ws:  # fmt: skip
                await driven(ws, turns, seen)
            gone = await http.post(f"voila/api/shutdown/{kernel}", data={"_xsrf": http.cookies.get("_xsrf", "")})
            gone.raise_for_status()
    except Exception as error:  # the outermost edge of a visitor: it is counted, and the others go on
        seen.errors.append(f"{type(error).__name__}: {error}"[:300])


def told(seen: Seen, visitors: int, took_s: float) -> dict[str, Any]:
    """The figures."""

    def at(values: list[float], percent: int) -> float:
        return round(statistics.quantiles(values, n=100)[percent - 1], 3) if len(values) > 1 else float("nan")

    return {
        "visitors": visitors, "took_s": round(took_s, 1), "statuses": dict(seen.statuses), "waited": seen.waited,
        "page_p50_s": at(seen.opened_s, 50), "page_p95_s": at(seen.opened_s, 95),
        "with_waiting_p50_s": at(seen.asked_s, 50), "with_waiting_p95_s": at(seen.asked_s, 95),
        "answers": len(seen.answered_s), "answer_p50_s": at(seen.answered_s, 50),
        "answer_p95_s": at(seen.answered_s, 95), "without_retry_after": seen.impolite, "errors": seen.errors,
    }  # fmt: skip


async def everybody(url: str, cookies: list[dict[str, str]], turns: int, in_tabs: bool) -> dict[str, Any]:
    """All visitors at once."""
    seen, began = Seen(), time.perf_counter()
    if in_tabs:
        await tabs.everybody(url, cookies, turns, seen)
    else:
        await asyncio.gather(*(visit(url, one, turns, seen) for one in cookies))
    return told(seen, len(cookies), time.perf_counter() - began)


def people(store: Path, port: int, count: int) -> list[dict[str, str]]:
    """The cookies of so many people who are signed in."""
    from codesign_kernel.store import Store
    from codesign_kernel.store.people import People

    with Store(store) as opened:
        known = People(opened)
        subjects = [known.add(f"visitor {number}", "user").subject for number in range(count)]
        return [{f"codesign-{port}": known.start_login(subject, 3600)} for subject in subjects]


def main() -> None:
    """Print what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--apps", type=Path, default=ROOT / "voila_apps")
    parser.add_argument("--tabs", action="store_true", help="real tabs of a headless Chromium")
    parser.add_argument("--config", type=Path, help="settings of the gateway; its defaults without")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="visitors-") as folder:
        command = [sys.executable, "-m", "codesign_kernel.cli", "serve", "--json", "--port", "0"]
        command += ["--apps", str(args.apps), "--data", f"{folder}/data"]
        command += ["--config", str(args.config)] if args.config else []
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            try:
                about = _started(process)
                cookies = people(Path(folder) / "data" / "store.db", about["port"], args.visitors)
                print(json.dumps(asyncio.run(everybody(about["url"], cookies, args.turns, args.tabs)), indent=1))
            finally:
                process.terminate()
                process.wait(60)


def _started(process: subprocess.Popen[str]) -> dict[str, Any]:
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if line.startswith("}"):
            return dict(json.loads("".join(lines)))
    raise SystemExit("the gateway does not start")


if __name__ == "__main__":
    main()
