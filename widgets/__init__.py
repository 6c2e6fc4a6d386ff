"""Jupyter widgets: data and callables in, view out. Installed under the name ``codesign_widgets``."""

from codesign_widgets.array import ArrayAnimator
from codesign_widgets.console import Console
from codesign_widgets.cosim import CosimPanel
from codesign_widgets.designs import DesignExplorer
from codesign_widgets.frame import AppFrame
from codesign_widgets.mapping import MappingViewer
from codesign_widgets.models import ModelExplorer
from codesign_widgets.monitor import ExplorationMonitor
from codesign_widgets.playground import CONDITIONS, CONTROLS, Control, Playground
from codesign_widgets.quiz import ArrayQuiz
from codesign_widgets.roofline import Roofline
from codesign_widgets.rtl import RtlViewer
from codesign_widgets.settings import Choice, Settings
from codesign_widgets.source import ModelSource
from codesign_widgets.watch import ClusterWatch

__all__ = [
    "CONDITIONS",
    "CONTROLS",
    "AppFrame",
    "ArrayAnimator",
    "ArrayQuiz",
    "Choice",
    "ClusterWatch",
    "Console",
    "Control",
    "CosimPanel",
    "DesignExplorer",
    "ExplorationMonitor",
    "MappingViewer",
    "ModelExplorer",
    "ModelSource",
    "Playground",
    "Roofline",
    "RtlViewer",
    "Settings",
]
