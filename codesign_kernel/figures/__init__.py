"""Results as figures: ``*_info`` says what there is to see, ``plot_*`` draws it, ``report`` tells the whole loop."""

from codesign_kernel.figures.cosim import CosimInfo, cosim_figure, cosim_info, plot_cosim
from codesign_kernel.figures.front import ParetoInfo, Point, pareto_info
from codesign_kernel.figures.layers import LayerBar, LayersInfo, layers_figure, layers_info, plot_layers
from codesign_kernel.figures.pareto import pareto_figure, plot_pareto
from codesign_kernel.figures.parity import ParityInfo, parity_figure, parity_info, plot_parity
from codesign_kernel.figures.report import LoopResult, render_report
from codesign_kernel.figures.roofline import RooflineInfo, RoofPoint, plot_roofline, roofline_figure, roofline_info
from codesign_kernel.figures.scaling import (
    DecisionsInfo,
    PoliciesInfo,
    decisions_figure,
    decisions_info,
    plot_decisions,
    plot_policies,
    policies_figure,
    policies_info,
)
from codesign_kernel.figures.theme import dark, narrowed

__all__ = [
    "CosimInfo",
    "DecisionsInfo",
    "LayerBar",
    "LayersInfo",
    "LoopResult",
    "ParetoInfo",
    "ParityInfo",
    "Point",
    "PoliciesInfo",
    "RoofPoint",
    "RooflineInfo",
    "cosim_figure",
    "cosim_info",
    "dark",
    "decisions_figure",
    "decisions_info",
    "layers_figure",
    "layers_info",
    "narrowed",
    "pareto_figure",
    "pareto_info",
    "parity_figure",
    "parity_info",
    "plot_cosim",
    "plot_decisions",
    "plot_layers",
    "plot_pareto",
    "plot_parity",
    "plot_policies",
    "plot_roofline",
    "policies_figure",
    "policies_info",
    "render_report",
    "roofline_figure",
    "roofline_info",
]
