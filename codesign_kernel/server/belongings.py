"""Files of people, sealed: what they uploaded, what their jobs made, and what they asked to keep."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from codesign_kernel.server.runner import STUDY_PREFIX
from codesign_kernel.store.belongings import Belonging, BelongingTable
from codesign_kernel.store.crypto import Vault
from codesign_kernel.store.jobs import now
from codesign_kernel.store.store import Store

#: Without consent to keep it, something is forgotten so many seconds after it was made or asked for.
UNKEPT_S = 3600


class Belongings(BelongingTable):
    """The table of files, whose contents only the vault reads.

    Args:
        store: where they are kept.
        vault: seals their contents.
        consented: whether a person agreed that things are kept beyond the session.
    """

    def __init__(self, store: Store, vault: Vault, consented: Callable[[str], bool]) -> None:
        super().__init__(store)
        self._vault, self.consented = vault, consented

    def expiry(self, owner: str) -> datetime | None:
        """When something that is made now is forgotten: never by itself, where its owner agreed to that."""
        return None if self.consented(owner) else now() + timedelta(seconds=UNKEPT_S)

    def keep(self, owner: str, name: str, media_type: str, content: bytes, *, job: str | None = None) -> Belonging:
        """Seal a file and keep it for its owner."""
        row = self.row(owner, name, media_type, content, job)
        self.add(row)
        found = self.get(owner, row["id"])
        assert found is not None
        return found

    def read(self, owner: str, name: str) -> bytes | None:
        """The content of a file of the owner's."""
        sealed = self.content(owner, name)
        return None if sealed is None else self._vault.open(sealed)

    def row(self, owner: str, name: str, media_type: str, content: bytes, job: str | None) -> dict[str, Any]:
        """A sealed file as a row that is not kept yet; what names it are its owner and, where one made it, its job."""
        return {
            "id": uuid.uuid4().hex, "owner": owner, "job_id": job, "name": name, "media_type": media_type,
            "size": len(content), "digest": hashlib.sha256(content).hexdigest(), "content": self._vault.seal(content),
            "created_at": now(), "expires_at": self.expiry(owner),
        }  # fmt: skip

    def input(self, owner: str, name: str) -> tuple[str, bytes] | None:
        """The media type and the content of an upload, or of the study of that name."""
        if name.startswith(STUDY_PREFIX):
            found = self.newest(owner, name)
            name = found.id if found is not None else ""
        else:
            found = self.get(owner, name)
        content = self.read(owner, name)
        return None if found is None or content is None else (found.media_type, content)
