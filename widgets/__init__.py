"""Jupyter widgets: data and callables in, view out. Installed under the name ``codesign_widgets``."""

from codesign_widgets.explorer import CONDITIONS, CONTROLS, Control, DesignExplorer

__all__ = ["CONDITIONS", "CONTROLS", "Control", "DesignExplorer"]
