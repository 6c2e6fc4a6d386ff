"""What a page asks about its kernel besides the websocket: that it is there, and that it may go."""

from __future__ import annotations

import json
from typing import Any

from jupyter_client.jsonutil import json_default
from tornado import web

from codesign_kernel.server.handler import GateHandler


class Owned(GateHandler):
    """A handler of one kernel: 404 for everybody but its owner."""

    json_only = True

    async def prepare(self, **given: Any) -> None:
        """Refuse who asks for another's kernel, in the same words as for one that is not there."""
        await super().prepare(**given)
        if not self.services.kernels.owned(self.path_args[0], self.person.subject):
            self.services.signals.refused("ownership", self.person.subject)
            raise web.HTTPError(404)


class KernelModel(Owned):
    """``/api/kernels/ID``."""

    async def get(self, kernel_id: str) -> None:
        """The kernel as Jupyter's pages know it."""
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(self.services.kernels.kernel_model(kernel_id), default=json_default))


class KernelEnd(Owned):
    """``/voila/api/shutdown/ID``, as a page asks that is closed."""

    async def post(self, kernel_id: str) -> None:
        """End the kernel."""
        self.set_status(204)
        self.finish()
        await self.services.kernels.end(kernel_id, "Its page was closed.")
