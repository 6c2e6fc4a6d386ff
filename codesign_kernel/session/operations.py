"""What an operator sees and does: through the gateway that this process belongs to, or without one of this process."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from codesign_kernel.cosim.simulators import simulators
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.telemetry.process import usage_of

_STARTED_S = time.monotonic()


class Caller(Protocol):
    """Asks a gateway: see :class:`codesign_kernel.Client`."""

    def admin(self, method: str, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]: ...


class GatewayOperations:
    """A gateway, through its REST API, for administrators.

    Every method raises ServiceError where the gateway refuses.
    """

    acts = True
    where = ""

    def __init__(self, client: Caller) -> None:
        self._client = client

    def look(self) -> Mapping[str, Any]:
        """Health, kernels, jobs, people, the last minutes, the last audit entries."""
        return self._client.admin("GET", "overview")

    def stop_kernel(self, kernel: str) -> Any:
        """End a kernel."""
        return self._client.admin("DELETE", f"kernels/{_id(kernel)}")

    def stop_job(self, job: str) -> Any:
        """Stop a job."""
        return self._client.admin("DELETE", f"jobs/{_id(job)}")

    def audit(self, event: str = "", who: str = "", since: str = "") -> Mapping[str, Any]:
        """Entries of the audit trail, the latest first; ``since`` such as ``12h``."""
        params = {name: value for name, value in (("event", event), ("who", who), ("since", since)) if value}
        return self._client.admin("GET", "audit", params=params)

    def verify(self) -> Mapping[str, Any]:
        """Whether the audit trail is as it was written."""
        return self._client.admin("POST", "audit/verify")


class LocalOperations:
    """This process, where there is no gateway: its store, its simulators, its memory."""

    acts = False
    where = "No gateway runs this page, so it shows what this process sees. `codesign serve` starts a gateway."

    def __init__(self) -> None:
        self._looks: list[tuple[float, float, int]] = []

    def look(self) -> Mapping[str, Any]:
        """As :meth:`GatewayOperations.look`, of this process."""
        usage = usage_of(os.getpid(), tree=True)
        self._looks = [*self._looks[-179:], (time.time(), usage.cpu_s, usage.memory_bytes)]
        parts = self._parts()
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "health": {
                "ready": all(found["ok"] for found in parts.values()),
                "up_s": round(time.monotonic() - _STARTED_S),
                "parts": parts,
                "breakers": {f"cache {tier}": about["state"] for tier, about in parts["cache"]["tiers"].items()},
            },
            "kernels": [
                {
                    "id": f"{os.getpid():08d}", "app": "this process", "owner": "", "state": "running",
                    "age_s": time.monotonic() - _STARTED_S, "idle_s": None, "cpu_s": usage.cpu_s,
                    "memory_bytes": usage.memory_bytes,
                }
            ],
            "series": {
                "at": [at for at, _, _ in self._looks],
                "kernels_memory_bytes": [memory for _, _, memory in self._looks],
            },
            "audit": {},
        }  # fmt: skip

    def _parts(self) -> dict[str, Any]:
        from codesign_kernel.store import Store  # SQLAlchemy takes a while, and a gateway's console needs none
        from codesign_kernel.store.database import data_root

        with Store() as store:
            told, tiers = store.health()["database"], store.cache.probe()
            lost = [tier for tier, about in tiers.items() if not about["answers"]]
        kind = "sqlite" if "sqlite" in str(told["place"]) or "/" in str(told["place"]) else "postgresql"
        found = simulators()
        here = [name for name, missing in found.items() if not missing]
        usage = shutil.disk_usage(next(path for path in (data_root(), *data_root().parents) if path.exists()))
        return {
            "database": {
                "ok": told["reachable"], "detail": told["detail"], "schema": told["schema"], "kind": kind,
            },
            "cache": {"ok": not lost, "detail": f"{', '.join(lost)} does not answer" if lost else "", "tiers": tiers},
            "simulators": {"ok": bool(here), "detail": "" if here else "no simulator runs here", "here": here},
            "data": {"ok": True, "detail": "", "free_bytes": usage.free, "total_bytes": usage.total},
        }  # fmt: skip

    def stop_kernel(self, kernel: str) -> Any:
        """Refused: see ``where``."""
        raise InvalidInputError(self.where)

    stop_job = stop_kernel

    def audit(self, event: str = "", who: str = "", since: str = "") -> Mapping[str, Any]:
        """Nothing: without a gateway there is no trail."""
        return {}

    def verify(self) -> Mapping[str, Any]:
        """Refused: see ``where``."""
        raise InvalidInputError(self.where)


def operations() -> GatewayOperations | LocalOperations:
    """What can be operated from here: the gateway that this process belongs to, else this process alone."""
    from codesign_kernel.client import Client

    client = Client.here()
    return LocalOperations() if client is None else GatewayOperations(client)


def _id(text: str) -> str:
    """An id, which cannot lead to another address.

    Raises:
        InvalidInputError: it is none.
    """
    if not text or len(text) > 64 or not all(letter.isalnum() or letter in "-_" for letter in text):
        raise InvalidInputError(f"an id is letters, digits and hyphens, but got {text[:40]!r}")
    return text
