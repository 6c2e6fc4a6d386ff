"""Jupyter widgets: data and callables in, view out. Installed under the name ``codesign_widgets``."""

from codesign_widgets.array import ArrayAnimator
from codesign_widgets.cosim import CosimPanel
from codesign_widgets.designs import DesignExplorer
from codesign_widgets.mapping import MappingViewer
from codesign_widgets.models import ModelExplorer
from codesign_widgets.monitor import ExplorationMonitor
from codesign_widgets.playground import CONDITIONS, CONTROLS, Control, Playground
from codesign_widgets.roofline import Roofline
from codesign_widgets.rtl import RtlViewer
from codesign_widgets.watch import ClusterWatch

__all__ = [
    "CONDITIONS",
    "CONTROLS",
    "ArrayAnimator",
    "ClusterWatch",
    "Control",
    "CosimPanel",
    "DesignExplorer",
    "ExplorationMonitor",
    "MappingViewer",
    "ModelExplorer",
    "Playground",
    "Roofline",
    "RtlViewer",
]
