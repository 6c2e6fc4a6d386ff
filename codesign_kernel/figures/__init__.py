"""Results as figures: ``*_info`` says what there is to see, ``plot_*`` draws it, ``report`` tells the whole loop."""

from codesign_kernel.figures.attainment import AttainmentInfo, attainment_figure, attainment_info, plot_attainment
from codesign_kernel.figures.causes import CauseBar, CausesInfo, causes_figure, causes_info, plot_causes
from codesign_kernel.figures.convergence import (
    ConvergenceInfo,
    convergence_figure,
    convergence_info,
    plot_convergence,
)
from codesign_kernel.figures.cosim import CosimInfo, cosim_figure, cosim_info, plot_cosim
from codesign_kernel.figures.front import ParetoInfo, Point, pareto_info
from codesign_kernel.figures.fusion import FusionBar, FusionInfo, fusion_figure, fusion_info, plot_fusion
from codesign_kernel.figures.layers import LayerBar, LayersInfo, layers_figure, layers_info, plot_layers
from codesign_kernel.figures.pairs import PairPoint, PairsInfo, pairs_figure, pairs_info, plot_pairs
from codesign_kernel.figures.pareto import pareto_figure, plot_pareto
from codesign_kernel.figures.parity import ParityInfo, parity_figure, parity_info, plot_parity
from codesign_kernel.figures.pruning import PruningInfo, plot_pruning, pruning_figure, pruning_info
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
from codesign_kernel.figures.sensitivity import (
    SensitivityInfo,
    plot_sensitivity,
    sensitivity_figure,
    sensitivity_info,
)
from codesign_kernel.figures.speech import SpeechInfo, SpokenWord, plot_speech, speech_figure, speech_info
from codesign_kernel.figures.theme import dark, narrowed
from codesign_kernel.figures.wavefront import WavefrontInfo, wavefront_info
from codesign_kernel.figures.workers import WorkersInfo, plot_workers, workers_figure, workers_info

__all__ = [
    "AttainmentInfo",
    "CauseBar",
    "CausesInfo",
    "ConvergenceInfo",
    "CosimInfo",
    "DecisionsInfo",
    "FusionBar",
    "FusionInfo",
    "LayerBar",
    "LayersInfo",
    "LoopResult",
    "PairPoint",
    "PairsInfo",
    "ParetoInfo",
    "ParityInfo",
    "Point",
    "PoliciesInfo",
    "PruningInfo",
    "RoofPoint",
    "RooflineInfo",
    "SensitivityInfo",
    "SpeechInfo",
    "SpokenWord",
    "WavefrontInfo",
    "WorkersInfo",
    "attainment_figure",
    "attainment_info",
    "causes_figure",
    "causes_info",
    "convergence_figure",
    "convergence_info",
    "cosim_figure",
    "cosim_info",
    "dark",
    "decisions_figure",
    "decisions_info",
    "fusion_figure",
    "fusion_info",
    "layers_figure",
    "layers_info",
    "narrowed",
    "pairs_figure",
    "pairs_info",
    "pareto_figure",
    "pareto_info",
    "parity_figure",
    "parity_info",
    "plot_attainment",
    "plot_causes",
    "plot_convergence",
    "plot_cosim",
    "plot_decisions",
    "plot_fusion",
    "plot_layers",
    "plot_pairs",
    "plot_pareto",
    "plot_parity",
    "plot_policies",
    "plot_pruning",
    "plot_roofline",
    "plot_sensitivity",
    "plot_speech",
    "plot_workers",
    "policies_figure",
    "policies_info",
    "pruning_figure",
    "pruning_info",
    "render_report",
    "roofline_figure",
    "roofline_info",
    "sensitivity_figure",
    "sensitivity_info",
    "speech_figure",
    "speech_info",
    "wavefront_info",
    "workers_figure",
    "workers_info",
]
