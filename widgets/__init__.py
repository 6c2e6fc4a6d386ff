"""Jupyter widgets: data and callables in, view out. Installed under the name ``codesign_widgets``."""

from codesign_widgets.array import ArrayAnimator
from codesign_widgets.playground import CONDITIONS, CONTROLS, Control, Playground
from codesign_widgets.watch import ClusterWatch

__all__ = ["CONDITIONS", "CONTROLS", "ArrayAnimator", "ClusterWatch", "Control", "Playground"]
