"""The gateway: apps in their scopes, confined kernels, the REST API, health and metrics."""

from codesign_kernel.server.late import load_late

load_late()
