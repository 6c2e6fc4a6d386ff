"""The zoo against what was published: parameters, multiply-accumulates and counts of layers, each with its source."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from codesign_kernel.errors import InvalidInputError
from codesign_kernel.profiler import Profile, profile, zoo
from codesign_kernel.profiler.result import UNUSED

#: Parameters. Where a publication rounds, torchvision's or Hugging Face's count of the same network.
PARAMETERS = {
    "lenet5": 61_706,
    "alexnet": 60_965_224,  # Caffe's bvlc_alexnet: 60,965,224 weights and biases in the released model
    "vgg16": 138_357_544,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "mobilenet_v1": 4_231_976,  # keras.applications.MobileNet: 4,253,864, of which 4,231,976 trainable
    "mobilenet_v2": 3_504_872,
    "efficientnet_b0": 5_288_548,
    "vit_b16": 86_567_656,
    "bert_base": 109_482_240,
    "gpt2": 124_439_808,
    "llama_7b_prefill": 6_738_415_616,  # meta-llama/Llama-2-7b-hf (same shape): 6.74 B in its safetensors index
    "llama_7b_decode": 6_738_415_616,
    "mlperf_tiny_kws": 23_756,  # trainable of the Keras totals below
    "mlperf_tiny_vww": 216_322,
    "mlperf_tiny_ic": 78_186,
    "mlperf_tiny_ad": 267_928,
}

#: As Keras counts the reference models of MLPerf Tiny (github.com/mlcommons/tiny): with running mean and variance.
WITH_STATISTICS = {
    "mlperf_tiny_kws": 24_908,
    "mlperf_tiny_vww": 221_794,
    "mlperf_tiny_ic": 78_666,
    "mlperf_tiny_ad": 269_992,
}

#: Multiply-accumulates as printed, with as many digits as were printed.
MACS = {
    "alexnet": ("724M", "Caffe's bvlc_alexnet, e.g. Sze et al. 2017 (arXiv 1703.09039), table 2: 724M with groups"),
    "vgg16": ("15.5G", "Sze et al. 2017, table 2"),
    "resnet18": ("1.8G", "He et al. 2015 (arXiv 1512.03385), table 1: 1.8 x 10^9, multiply-adds"),
    "resnet50": ("4.09G", "torchvision.models.resnet50 (stride in the 3 x 3): 4.09 GFLOPS, multiply-adds"),
    "mobilenet_v1": ("569M", "Howard et al. 2017 (arXiv 1704.04861), table 4"),
    "mobilenet_v2": ("300M", "Sandler et al. 2018 (arXiv 1801.04381), table 4"),
    "efficientnet_b0": ("0.39G", "Tan and Le 2019 (arXiv 1905.11946), table 2: 0.39B, multiply-adds"),
    "vit_b16": ("17.56G", "torchvision.models.vit_b_16: 17.56 GFLOPS, multiply-adds"),
    "mlperf_tiny_vww": ("7.5M", "Banbury et al. 2021; Keras model of mlcommons/tiny"),
    "mlperf_tiny_ic": ("12.5M", "as above"),
}

#: Layers that multiply: {operator: count}.
LAYERS = {
    "alexnet": {"conv2d": 5, "linear": 3},  # Krizhevsky et al. 2012, section 3.5
    "vgg16": {"conv2d": 13, "linear": 3},  # Simonyan and Zisserman 2014, table 1 D
    "resnet50": {"conv2d": 53, "linear": 1},  # He et al., table 1: 1 + 3 x (3 + 4 + 6 + 3), and 4 projections
    "mobilenet_v1": {"conv2d": 27, "linear": 1},  # Howard et al., table 1: 28 layers
    "mobilenet_v2": {"conv2d": 52, "linear": 1},  # Sandler et al., table 2: 17 blocks of 3 (the first of 2), two more
    # Devlin et al. 2018: 12 layers, each with query, key, value, output and two of the feed-forward part; the pooler
    "bert_base": {"linear": 12 * 6 + 1, "matmul": 12 * 2},
    "llama_7b_decode": {"linear": 32 * 7 + 1, "matmul": 32 * 2},  # Touvron et al. 2023: 32 layers; the head
}


@cache
def profiled(name: str) -> Profile:
    return profile(*zoo.build(name), name=name)


def torch_macs(name: str) -> float:
    """Half of the FLOP that torch's own counter finds."""
    model, example = zoo.build(name)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*(example if isinstance(example, tuple) else (example,)))
    return counter.get_total_flops() / 2


def test_zoo_lists_what_it_builds() -> None:
    assert set(zoo.names()) == set(PARAMETERS)
    with pytest.raises(InvalidInputError, match=r"no network 'resnet19'; it has lenet5"):
        zoo.build("resnet19")


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_as_published_and_macs_as_torch_counts(name: str) -> None:
    result = profiled(name)
    assert result.parameters == PARAMETERS[name]
    assert result.macs == torch_macs(name)
    assert not result.workload.uncosted
    assert UNUSED not in set(result.table()["name"])


@pytest.mark.parametrize("name", MACS)
def test_macs_as_published(name: str) -> None:
    printed, _source = MACS[name]
    digits = printed[:-1]
    unit = {"M": 1e6, "G": 1e9}[printed[-1]]
    half = 0.5 * 10.0 ** -len(digits.partition(".")[2])
    assert profiled(name).macs / unit == pytest.approx(float(digits), abs=max(half, 0.003 * float(digits)))


@pytest.mark.parametrize("name", LAYERS)
def test_layers_as_published(name: str) -> None:
    counts = Counter(layer.op for layer in profiled(name).workload.layers if layer.macs)
    assert counts == LAYERS[name]


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_mlperf_tiny_as_keras_counts(name: str) -> None:
    model, _ = zoo.build(name)
    statistics = sum(2 * m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d))
    assert profiled(name).parameters + statistics == WITH_STATISTICS[name]


def test_bert_base_flop_as_published() -> None:
    """Sun et al. 2020 (MobileBERT, arXiv 2004.02984), table 1: BERT-base 22.5B FLOPS, two a multiply-accumulate, at 128
    tokens."""
    assert 2 * profiled("bert_base").macs / 1e9 == pytest.approx(22.5, rel=0.01)


def test_decode_adds_one_token_to_the_cache() -> None:
    """Every weight multiplies once, and each head meets 2048 keys and values of 128: nothing else multiplies."""
    result = profiled("llama_7b_decode")
    embedding, norms = 32_000 * 4096, 65 * 4096
    weights = result.parameters - embedding - norms
    assert result.macs == weights + 32 * 2 * 32 * 2048 * 128
    model, example = zoo.build("llama_7b_decode")
    logits, *caches = model(*example)
    assert logits.shape == (1, 1, 32_000)
    assert {tuple(cache.shape) for cache in caches} == {(1, 32, 2048, 128)}
    assert len(caches) == 64
