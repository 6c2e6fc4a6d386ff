"""``ck.Client``: the SDK of a gateway's REST API. httpx loads when a client is made."""

from codesign_kernel.client.client import VARIABLE, Client, Job

__all__ = ["VARIABLE", "Client", "Job"]
