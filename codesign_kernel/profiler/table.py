"""The formula table: ATen operator (base name, without the underscore of an in-place one) -> formula.

To add an operator, write a function ``Operands -> list[Step]`` in ``vector`` (or beside its kin) and name it here.
"""

from codesign_kernel.profiler.formulas import Formula, attention, convolution, gemm_of, linear
from codesign_kernel.profiler.recurrent import recurrent, recurrent_cell
from codesign_kernel.profiler.vector import (
    adaptive_pool,
    channelwise,
    elementwise,
    embedding,
    hardtanh,
    pool,
    reduction,
    resampled,
)

#: Operators that do MACs; they are layers even where nothing in them depends on the network's input.
GEMM: dict[str, Formula] = {
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution"),
        convolution,
    ),
    **dict.fromkeys(("_convolution", "cudnn_convolution", "mkldnn_convolution"), convolution),
    "linear": linear,
    "matmul": gemm_of("self", "other"),
    **dict.fromkeys(("mm", "bmm", "_int_mm"), gemm_of("self", "mat2")),
    "addmm": gemm_of("mat1", "mat2"),
    **dict.fromkeys(("baddbmm", "addbmm"), gemm_of("batch1", "batch2")),
    "mv": gemm_of("self", "vec"),
    "addmv": gemm_of("mat", "vec"),
    "dot": gemm_of("self", "tensor"),
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(
        [f"_scaled_dot_product_{kind}_attention" for kind in ("flash", "efficient", "cudnn", "fused")],
        attention,
    ),
    "_scaled_dot_product_flash_attention_for_cpu": attention,
    "lstm": recurrent(4, "lstm_cell"),
    "gru": recurrent(3, "gru_cell"),
    "lstm_cell": recurrent_cell(4, "lstm_cell"),
    "gru_cell": recurrent_cell(3, "gru_cell"),
    "rnn_tanh": recurrent(1, "rnn_cell"),
    "rnn_relu": recurrent(1, "rnn_cell"),
}

_ELEMENTWISE = (
    "relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "leaky_relu", "elu", "selu",
    "celu", "mish", "softplus", "softsign", "prelu", "glu", "logsigmoid", "log_sigmoid", "threshold", "add", "sub",
    "mul", "div", "pow", "rsqrt", "sqrt", "exp", "expm1", "log", "log1p", "log2", "erf", "sin", "cos", "neg", "abs",
    "reciprocal", "square", "clamp", "clamp_min", "clamp_max", "maximum", "minimum", "where", "masked_fill",
    "round", "floor", "ceil", "sign", "floor_divide", "remainder", "addcmul", "addcdiv", "lerp", "atan2", "softmax",
    "log_softmax", "layer_norm", "rms_norm", "cat", "stack", "gather", "index", "index_select", "roll", "flip",
    "tril", "triu", "cumsum", "eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or",
    "bitwise_not", "bitwise_and", "bitwise_or", "isnan", "isinf", "atan", "sinh", "cosh",
)  # fmt: skip
_RENAMED = {
    "_softmax": "softmax", "_safe_softmax": "softmax", "_log_softmax": "log_softmax", "native_layer_norm": "layer_norm",
    "_fused_rms_norm": "rms_norm", "rsub": "sub", "constant_pad_nd": "pad", "reflection_pad2d": "pad",
    "replication_pad2d": "pad", "reflection_pad1d": "pad", "replication_pad1d": "pad",
}  # fmt: skip
_BATCH_NORM = (
    "batch_norm", "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training", "_batch_norm_no_update",
)  # fmt: skip
_REDUCTIONS = (
    "mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "prod", "argmax", "argmin", "logsumexp",
    "linalg_vector_norm",
)  # fmt: skip
_UPSAMPLE = (
    "nearest1d", "nearest2d", "_nearest_exact2d", "linear1d", "bilinear2d", "_bilinear2d_aa", "bicubic2d",
    "_bicubic2d_aa",
)  # fmt: skip

#: Formula of each operator by base name. What is neither here nor in FREE is counted in ``Workload.uncosted``.
FORMULAS: dict[str, Formula] = {
    **{name: elementwise(name) for name in _ELEMENTWISE},
    **{name: elementwise(op) for name, op in _RENAMED.items()},
    **{name: reduction(name) for name in _REDUCTIONS},
    **dict.fromkeys(_BATCH_NORM, channelwise("batch_norm")),
    "instance_norm": channelwise("instance_norm"),
    "group_norm": channelwise("group_norm"),
    "native_group_norm": channelwise("group_norm"),
    **{f"upsample_{kind}": resampled("interpolate") for kind in _UPSAMPLE},
    "hardtanh": hardtanh,
    "max_pool1d": pool("max_pool1d", 1),
    "max_pool2d": pool("max_pool2d", 2),
    "max_pool2d_with_indices": pool("max_pool2d", 2),
    "avg_pool1d": pool("avg_pool1d", 1),
    "avg_pool2d": pool("avg_pool2d", 2),
    "adaptive_avg_pool1d": adaptive_pool("adaptive_avg_pool1d", 1),
    "adaptive_avg_pool2d": adaptive_pool("adaptive_avg_pool2d", 2),
    "_adaptive_avg_pool2d": adaptive_pool("adaptive_avg_pool2d", 2),
    "adaptive_max_pool1d": adaptive_pool("adaptive_max_pool1d", 1),
    "adaptive_max_pool2d": adaptive_pool("adaptive_max_pool2d", 2),
    "embedding": embedding,
    **GEMM,
}  # fmt: skip

#: Changes of layout or type: edges pass through them. (Views need no entry: their output shares its operand's memory.)
FREE = frozenset((
    "clone", "_to_copy", "copy", "_unsafe_view", "_reshape_copy", "lift_fresh", "lift_fresh_copy", "repeat",
    "repeat_interleave", "resize", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "expand_copy",
    "view_copy", "permute_copy",
))  # fmt: skip

#: Operators whose result does not depend on the values of their operands.
FACTORIES = frozenset((
    "zeros_like", "ones_like", "empty_like", "full_like", "new_zeros", "new_ones", "new_empty", "new_full",
    "new_empty_strided", "empty_strided", "fill", "zero",
))  # fmt: skip
