"""How a network is laid onto the array: which operators run as one step, and how a step is cut into tiles."""

from codesign_kernel.mapping.steps import Step, steps_of

__all__ = ["Step", "steps_of"]
