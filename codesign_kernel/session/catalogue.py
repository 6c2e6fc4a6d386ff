"""Networks to look at: those of the zoo, and what somebody brings, within the scope of this process."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import Any

from codesign_kernel import scopes
from codesign_kernel.profiler.isolated import profile_file
from codesign_kernel.profiler.limits import Limits
from codesign_kernel.profiler.packing import pack
from codesign_kernel.profiler.result import Profile
from codesign_kernel.profiler.stored import stored_names, stored_profile
from codesign_kernel.uploads import ONNX, PT2, check_upload, safe_name

#: Name in the zoo -> (what people call it, what it does).
TITLES = MappingProxyType(
    {
        "lenet5": ("LeNet-5", "handwritten digits"),
        "alexnet": ("AlexNet", "images"),
        "vgg16": ("VGG-16", "images"),
        "resnet18": ("ResNet-18", "images"),
        "resnet50": ("ResNet-50", "images"),
        "mobilenet_v1": ("MobileNet", "images, on a phone"),
        "mobilenet_v2": ("MobileNetV2", "images, on a phone"),
        "efficientnet_b0": ("EfficientNet-B0", "images, on a phone"),
        "vit_b16": ("ViT-B/16", "images, a transformer"),
        "bert_base": ("BERT base", "text, 128 tokens"),
        "gpt2": ("GPT-2", "text, 128 tokens"),
        "llama_7b_prefill": ("Llama 7B, prompt", "text, all tokens of a prompt"),
        "llama_7b_decode": ("Llama 7B, one token", "text, the next token"),
        "mlperf_tiny_kws": ("Keyword spotting", "MLPerf Tiny, speech"),
        "mlperf_tiny_vww": ("Visual wake words", "MLPerf Tiny, is somebody there"),
        "mlperf_tiny_ic": ("Image classification", "MLPerf Tiny, small images"),
        "mlperf_tiny_ad": ("Anomaly detection", "MLPerf Tiny, sounds of machines"),
    }
)
#: What reading an upload may take beyond an idle reader: the graph alone is read, and an ONNX file is copied twice.
_MEMORY_BYTES = 256 << 20


def networks(*first: str) -> dict[str, tuple[str, str]]:
    """The networks of the zoo that the scope allows: {name: (title, what it does)}, ``first`` before the others."""
    scope = scopes.current()
    allowed = [name for name in stored_names() if scope is None or "*" in scope.models or name in scope.models]
    ordered = [*(name for name in first if name in allowed), *(name for name in allowed if name not in first)]
    return {name: TITLES[name] for name in ordered}


def network(name: str) -> Profile:
    """The profile of a network of the zoo, without torch.

    Raises:
        InvalidInputError: the zoo has no such network.
        ScopeError: the scope does not allow to profile, or not this network, or not so many MACs.
    """
    scopes.require("profile")
    profile = stored_profile(name)
    if (scope := scopes.current()) is not None:
        scope.allows_model(name)
    return _within(profile)


def upload_bytes() -> int:
    """How large an upload may be here (byte); 0 where the scope has no uploads."""
    scope = scopes.current()
    if scope is None:
        return scopes.LIMITS["upload_bytes"].default
    return scope.limits["upload_bytes"] if scope.may("upload") else 0


def read_network(name: str, content: bytes) -> Profile:
    """The profile of an uploaded ``.onnx`` or ``.pt2`` file. Its kind is told by its content; neither its weights nor
    any code in it are loaded, and nothing of it is kept on disk.

    Args:
        name: what the uploader calls the file; the profile has it without its ending, in plain characters.
        content: the file.

    Raises:
        InvalidInputError: it is of another kind, damaged, or too costly to read.
        ScopeError: the scope allows no uploads, or none so large, or no network of so many MACs.
    """
    scopes.require("profile")
    scopes.require("upload")
    scopes.within("upload_bytes", len(content))
    called = Path(safe_name(name))
    kind = {ONNX: ".onnx", PT2: ".pt2"}[check_upload(content)]
    with tempfile.TemporaryDirectory(prefix="codesign-upload-") as folder:
        path = Path(folder) / f"{called.stem}{kind}"
        path.write_bytes(content)
        return _within(profile_file(path, [], called.stem, Limits(memory_bytes=_MEMORY_BYTES + 3 * len(content))))


def _within(profile: Profile) -> Profile:
    scopes.within("macs", profile.macs)
    return profile


def exported(profile: Profile, kind: str) -> tuple[str, bytes]:
    """(file name, content) of a profile as ``"csv"``, its table, or ``"json"``, all of it.

    Raises:
        ScopeError: it is larger than a result of this scope may be.
    """
    if kind == "csv":
        content = profile.table().to_csv(index=False).encode()
    else:
        told: dict[str, Any] = json.loads(pack(profile))
        content = json.dumps({"format": "codesign-profile 1", **told}, indent=1).encode()
    scopes.within("artefact_bytes", len(content))
    return f"{safe_name(profile.name)}.{kind}", content
