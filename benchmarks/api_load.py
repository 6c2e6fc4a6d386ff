"""Requests of the REST API at once: how long they take, how they are answered, and whether a job is lost.

    python benchmarks/api_load.py [--requests 2000] [--concurrency 50] [--url URL --token TOKEN]

Without a URL it starts a gateway of its own, in a folder of its own, and makes a token for it. A third of the requests
read, a third ask for evaluations of one design, which are jobs, and a third hand in profiles under an idempotency key,
each key twice. Every job that was accepted is then waited for: one that does not end is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from codesign_kernel.server.api.known import networks

READS = ("me", "models", "templates", "scopes", "jobs?limit=20", "artefacts", "openapi.json")
#: Networks that a user's scope allows.
SMALL = [name for name, one in networks().items() if one["macs"] < 10**12]


def plan(count: int, seed: int = 0) -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path, what httpx is given) of every request, shuffled."""
    rng, found = random.Random(seed), []
    for number in range(count):
        if number % 3 == 0:
            found.append(("GET", READS[number // 3 % len(READS)], {}))
        elif number % 3 == 1:
            design = {
                "rows": 2 ** rng.randint(2, 6),
                "cols": 2 ** rng.randint(2, 6),
                "weight_kib": rng.randint(16, 999),
            }
            request = {"network": rng.choice(SMALL), "designs": [design]}
            found.append(("POST", "evaluations", {"json": request, "headers": {"Prefer": "wait=0"}}))
        else:
            pair = number // 6  # of each pair the second one is the first one, asked again
            request = {"model": SMALL[pair % len(SMALL)], "name": f"job {pair}"}
            found.append(("POST", "profiles", {"json": request, "headers": {"Idempotency-Key": f"load-{seed}-{pair}"}}))
    rng.shuffle(found)
    return found


async def run(url: str, token: str, count: int, concurrency: int, seed: int) -> dict[str, Any]:
    """Ask, wait for every job, count."""
    limits = httpx.Limits(max_connections=concurrency)
    headers = {"Authorization": f"Bearer {token}"}
    statuses: Counter[str] = Counter()
    seconds: dict[str, list[float]] = {}
    jobs: set[str] = set()
    keys: dict[str, set[str]] = {}
    asked, gate = plan(count, seed), asyncio.Semaphore(concurrency)
    async with httpx.AsyncClient(base_url=f"{url}/api/v1/", headers=headers, limits=limits, timeout=120) as http:

        async def one(method: str, path: str, given: dict[str, Any]) -> None:
            async with gate:
                for attempt in range(20):
                    began = time.perf_counter()
                    answer = await http.request(method, path, **given)
                    statuses[str(answer.status_code)] += 1
                    kind = "read" if method == "GET" else "submit"
                    seconds.setdefault(kind, []).append(time.perf_counter() - began)
                    if answer.status_code not in (429, 503) or attempt == 19:
                        break
                    await asyncio.sleep(float(answer.headers["Retry-After"]))
            if method == "POST" and answer.status_code in (200, 202):
                jobs.add(answer.json()["id"])
                if key := given["headers"].get("Idempotency-Key"):
                    keys.setdefault(key, set()).add(answer.json()["id"])

        began = time.perf_counter()
        await asyncio.gather(*(one(*request) for request in asked))
        answered_s = time.perf_counter() - began
        ends = await _ends(http, jobs)
    over = sum(ends[state] for state in ("done", "failed", "stopped"))
    every = sorted(value for values in seconds.values() for value in values)
    return {
        "requests": count, "concurrency": concurrency, "answered_s": round(answered_s, 1),
        "all_jobs_ended_s": round(time.perf_counter() - began, 1), "statuses": dict(sorted(statuses.items())),
        "p50_ms": _ms(every, 50), "p95_ms": _ms(every, 95),
        **{f"{kind}_p95_ms": _ms(sorted(values), 95) for kind, values in sorted(seconds.items())},
        "jobs": len(jobs), "states": dict(ends), "lost": len(jobs) - over,
        "keys_with_two_jobs": sum(len(found) > 1 for found in keys.values()),
    }  # fmt: skip


def _ms(values: list[float], percent: int) -> float:
    return round(1e3 * statistics.quantiles(values, n=100)[percent - 1], 1)


async def _ends(http: httpx.AsyncClient, jobs: set[str], patience_s: float = 900.0) -> Counter[str]:
    """{state: jobs} when all have ended, or the patience has."""
    until = time.monotonic() + patience_s
    while True:
        found: Counter[str] = Counter()
        path: str | None = "jobs?limit=200"
        while path is not None:
            page = (await http.get(path)).json()
            found.update(job["state"] for job in page["jobs"] if job["id"] in jobs)
            path = page["next"] and f"jobs?{page['next'].partition('?')[2]}"
        if not found["queued"] + found["running"] or time.monotonic() > until:
            return found
        await asyncio.sleep(2.0)


def main() -> None:
    """Print what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url")
    parser.add_argument("--token", default="")
    args = parser.parse_args()
    if args.url:
        found = asyncio.run(run(args.url.rstrip("/"), args.token, args.requests, args.concurrency, args.seed))
        print(json.dumps(found, indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "apps").mkdir()
        command = [sys.executable, "-m", "codesign_kernel.cli", "serve", "--json", "--port", "0"]
        command += ["--apps", f"{folder}/apps", "--data", f"{folder}/data"]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            try:
                url = _started(process)
                token = _token(Path(folder) / "data" / "store.db")
                print(json.dumps(asyncio.run(run(url, token, args.requests, args.concurrency, args.seed)), indent=1))
            finally:
                process.terminate()
                process.wait(60)


def _started(process: subprocess.Popen[str]) -> str:
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if line.startswith("}"):
            return str(json.loads("".join(lines))["url"]).rstrip("/")
    raise SystemExit("the gateway does not start")


def _token(place: Path) -> str:
    """A person who may use the API, and a token of theirs."""
    from codesign_kernel.store import Store
    from codesign_kernel.store.people import People

    with Store(place) as store:
        people = People(store)
        return people.create_token(people.add("load", "user"), "load", ["profile", "explore"], 1)[1]


if __name__ == "__main__":
    main()
