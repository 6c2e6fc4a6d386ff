"""Post-training quantisation: a trained torch model and some of its inputs become an IntegerNetwork."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram

from codesign_kernel.optimize.calibration import Calibration
from codesign_kernel.accelerator.types import ACC_BITS, DATA_BITS
from codesign_kernel.errors import InvalidInputError
from codesign_kernel.optimize.float_layer import FloatLayer, run_layers
from codesign_kernel.optimize.graph import read
from codesign_kernel.optimize.integer import IntegerNetwork


def quantize(
    model: nn.Module,
    calibration_inputs: Tensor | NDArray[Any],
    bits: int = 8,
    weight_bits: Mapping[str, int] | None = None,
    model: nn.Module | ExportedProgram, calibration_inputs: Tensor | NDArray[Any], bits: int = 8
) -> IntegerNetwork:
    """Quantise a trained model to integers of ``bits`` bits; the model itself is not touched.

    Weights are symmetric with one scale for each output channel, activations symmetric with one scale for each map.
    Weights of 2 and 4 bits are clipped where a channel's squared error is smallest, and its bias takes up the mean of
    what they err by on the calibration inputs (Nagel et al. 2019, arXiv 1906.04721, section 4.2); wider ones keep their
    largest magnitude.

    The input's scale and the result's come from the largest magnitude in the calibration; between layers, the scale is
    that of the clipping point with the smallest mean squared error on the calibration's activations. The two maps of an
    addition have one scale, and a max pooling keeps that of its map: for all maps that are tied together so, the
    clipping point is the one with the smallest sum of their mean squared errors, and at most 6 if one is a ReLU6's.

    Args:
        model: Conv2d, BatchNorm2d, ReLU, ReLU6, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Flatten, Linear, Dropout and
            Identity, in branches that end in additions; or such a model as ``torch.export`` gives it.
        calibration_inputs: [N, C, H, W], floating point; some hundred inputs like those that the network will see.
        bits: of activations, and of the weights of layers that ``weight_bits`` does not name: 4, 8 or 16.
        weight_bits: widths of single layers' weights by the layer's name, its path in the model: 2, 4, 8 or 16, at
            most ``bits``.

    Raises:
        InvalidInputError: ``bits``, ``weight_bits`` or the inputs break a law, or the model cannot run on them.
        UnsupportedLayerError: the model holds a layer that the datapath cannot run; the message names it.
    """
    return Calibration(model, calibration_inputs, bits).network(weight_bits)
    if not isinstance(bits, int) or bits not in DATA_BITS:
        raise InvalidInputError(f"bits is one of {DATA_BITS}, but got {bits!r}")
    inputs = _inputs(calibration_inputs)
    reading = read(model, inputs[[0, -1]])
    layers = reading.layers
    input_scale, *scales = _scales(layers, _observe(layers, inputs), bits)
    names = {-1: INPUT, **{i: layer.name for i, layer in enumerate(layers)}}
    made = []
    for i, (layer, scale) in enumerate(zip(layers, scales, strict=True)):
        first = layer.reads[0]
        reads = () if layer.reads == (i - 1,) else tuple(names[source] for source in layer.reads)
        made.append(_integer_layer(layer, scales[first] if first >= 0 else input_scale, scale, bits, reads))
    shape = (inputs.shape[1], inputs.shape[2], inputs.shape[3])
    return IntegerNetwork(reading.name, shape, input_scale, bits, tuple(made))

def _inputs(given: Any) -> Tensor:
    """The calibration inputs as float32 [N, C, H, W], checked."""
    if isinstance(given, np.ndarray):
        if given.dtype.kind != "f":
            raise InvalidInputError(
                f"calibration inputs are floating point, but got {given.dtype}; scale them as for the model"
            )
        given = torch.from_numpy(given.astype(np.float32))
    if not isinstance(given, Tensor):
        raise InvalidInputError(f"calibration inputs are a tensor or a numpy array, but got {type(given).__name__}")
    if not given.is_floating_point():
        raise InvalidInputError(
            f"calibration inputs are floating point, but got {given.dtype}; scale them as for the model"
        )
    if given.ndim != 4 or not given.numel():
            f"calibration inputs are (N, C, H, W) with at least one value, but got {tuple(given.shape)}"
    if given.device.type == "meta":
        raise InvalidInputError("calibration inputs hold values, but got a tensor on the device 'meta'")
    inputs = given.detach().cpu().float()
    if not bool(torch.isfinite(inputs).all()):
        raise InvalidInputError("calibration inputs are finite numbers, but some are NaN or infinite")
    if not bool(inputs.any()):
        raise InvalidInputError("calibration inputs span the input's range, but all of them are 0")
    return inputs
Observed = tuple[float, NDArray[np.float64]]
def _observe(layers: list[FloatLayer], inputs: Tensor) -> list[Observed]:
    """For the input and for each layer's map the largest magnitude, and a regular sample of the values."""
    names = ["input", *(layer.name for layer in layers)]
    peaks = [0.0] * len(names)
    samples: list[list[NDArray[np.float32]]] = [[] for _ in names]
    with torch.no_grad():
        for batch in inputs.split(BATCH):
            for i, x in enumerate(chain([batch], run_layers(layers, batch))):
                peak = float(x.abs().max())
                if not math.isfinite(peak):
                    raise InvalidInputError(
                        f"results are finite numbers, but layer {names[i]!r} gives NaN or infinity on the "
                        "calibration inputs; check its weights"
                    )
                peaks[i] = max(peaks[i], peak)
                total = x.numel() // len(batch) * len(inputs)
                step = -(-total // SAMPLE) | 1  # odd, so that it does not stay in one column of an even map
                samples[i].append(x.flatten()[::step].numpy())
    for name, peak in zip(names, peaks, strict=True):
        if not peak > 0:
                f"layer {name!r} gives only zeros on the calibration inputs, so its range is unknown; calibrate "
                "with inputs like those that the network will see, or check its weights"
    return [(peak, np.concatenate(parts).astype(np.float64)) for peak, parts in zip(peaks, samples, strict=True)]
def _scales(layers: list[FloatLayer], seen: list[Observed], bits: int) -> list[float]:
    """The scales of the input and of each layer's map; ``seen`` is of the same maps."""
    top = (1 << (bits - 1)) - 1
    group = list(range(len(seen)))  # of each map, the input being map 0: the first map that it is tied to
    for i, layer in enumerate(layers):
        tied = {"add": [source + 1 for source in layer.reads], "max_pool2d": [layer.reads[0] + 1, i + 1]}
        both = {group[m] for m in tied.get(layer.op, [])}
        group = [min(both) if g in both else g for g in group]
    scales = [0.0] * len(seen)
    for first in sorted({*group}):
        members = [m for m, g in enumerate(group) if g == first]
        clip = max(seen[m][0] for m in members)
        if members not in ([0], [len(layers)]):
            clip = best_clip([seen[m][1] for m in members], clip, bits)
        ceilings = [layers[m - 1].ceiling for m in members if m]
        clip = min([clip, *(c for c in ceilings if c is not None)])
        for m in members:
            scales[m] = _float(clip / top)
    return scales
def best_clip(maps: list[NDArray[np.float64]], peak: float, bits: int) -> float:
    """The magnitude at which to clip the values of ``maps`` so that quantising errs least: the sum of the mean squares.
    A lower clip makes every step finer and cuts off the few values above it. The largest magnitude itself, ``peak``, is
    among the candidates.
    """
    errors = []
    for clip in CLIPS * peak:
        error = 0.0
        for values in maps:
            steps = np.clip(np.rint(values * (top / clip)), -top - 1, top)
            error += float(np.square(steps * (clip / top) - values).mean())
        errors.append(error)
    return float(CLIPS[int(np.argmin(errors))]) * peak
def requantiser(ratio: float, acc_bits: int = 32) -> tuple[int, int]:
    """(multiplier, shift) with multiplier / 2^shift close to ``ratio``, the multiplier using its 16 bits where it can.
    Raises:
        InvalidInputError: no multiplier of 16 bits and shift of 1 to ``acc_bits + 15`` comes near the ratio.
    least, most = shift_range(acc_bits)
    mantissa, exponent = math.frexp(ratio)
    multiplier, shift = round(mantissa * 65536), 16 - exponent
    if multiplier > MULTIPLIER_RANGE[1]:
        multiplier, shift = multiplier // 2, shift - 1
    if shift > most:
        multiplier, shift = round(math.ldexp(ratio, most)), most
    if multiplier < MULTIPLIER_RANGE[0] or shift < least:
            f"a requantiser scales by {MULTIPLIER_RANGE[0]}/2^{most} to {MULTIPLIER_RANGE[1]}/2, but "
            f"{ratio:g} is needed; normalise the network, so that inputs and outputs of its layers have similar ranges"
    return multiplier, shift
def _integer_layer(
    layer: FloatLayer, scale_in: float, scale_out: float, bits: int, reads: tuple[str, ...]
) -> IntegerLayer:
    top, acc_bits = (1 << (bits - 1)) - 1, ACC_BITS[bits]
    kinds: tuple[Any, Any] = (np.int16, np.int64) if bits == 16 else (np.int8, np.int32)
    weight, bias = layer.weight.numpy(), layer.bias.numpy()
    if layer.op in PLAIN_OPS:
        # the ones stand for no numbers of the model; an average's division is a part of its requantiser
        scales = np.full(len(weight), 1 / math.prod(layer.window) if layer.op == "avg_pool2d" else 1.0)
        integers = weight
    else:
        # The finest scale that represents the channel's weights, keeps its bias within half of the accumulator, whose
        # other half is left to the products, and its multiplier at 16 bits. The last two decide only where weights are
        # almost or exactly 0, as in a pruned channel.
        scales = np.maximum(np.abs(weight).max(axis=(1, 2, 3)) / top, np.abs(bias) / (scale_in * (1 << (acc_bits - 2))))
        scales = np.maximum(scales, scale_out / scale_in * 2.0**-acc_bits)
        integers = np.clip(np.rint(weight / scales[:, None, None, None]), -top, top)
    steps = [requantiser(scale_in * scale / scale_out, acc_bits) for scale in scales]
    return IntegerLayer(
        name=layer.name,
        op=layer.op,
        weight=integers.astype(kinds[0]),
        bias=np.rint(bias / (scale_in * scales)).astype(kinds[1]),
        multiplier=np.array([multiplier for multiplier, _ in steps], np.int32),
        shift=np.array([shift for _, shift in steps], np.int32),
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        relu=layer.relu,
        pool=layer.pool,
        flatten=layer.flatten,
        scale=scale_out,
        reads=reads,
    )
def _float(scale: float) -> float:
    """Rounded to 24 bits, so that the last bits of a sum, which depend on the processor, do not change a digest."""
    rounded = float(np.float32(scale))
    least = np.finfo(np.float32).tiny
    if rounded < least:
            f"a scale is at least {least:.2g}, but the calibration asks for {scale:.2g}; scale the inputs up"
    return rounded
