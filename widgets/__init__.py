"""Jupyter widgets: data and callables in, view out. Installed under the name ``codesign_widgets``."""

from codesign_widgets.explorer import CONDITIONS, CONTROLS, Control, DesignExplorer
from codesign_widgets.watch import ClusterWatch

__all__ = ["CONDITIONS", "CONTROLS", "ClusterWatch", "Control", "DesignExplorer"]
