"""The workers outside the sandbox: a Dask cluster in a cell of its own, and the narrow way to it.

A job's process (``remote``) sends numbers of designs through the socket of its own cell. The gateway (``relay``)
carries them to the process that has the cluster (``host``), which it keeps alive (``crew``), after it has said itself
what is explored (``asked``). A job never sends what is evaluated, only which designs of it.
"""
