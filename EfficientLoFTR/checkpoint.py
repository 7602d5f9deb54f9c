"""EfficientLoFTR's weights: the published checkpoint's names and transformers' names.

The two networks are numerically the same; only their parameters are named differently. The
published file holds ``{'state_dict': {'matcher.<name>': tensor}}`` with the 447 names mapped here.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from EfficientLoFTR.errors import CheckpointError

NUM_PARAMETERS = 447  # tensors of the full model, running statistics included
PREFIX = "matcher."

_BRANCHES = [
    (r"rbr_dense\.conv", "conv1.conv"),
    (r"rbr_dense\.bn", "conv1.norm"),
    (r"rbr_1x1\.conv", "conv2.conv"),
    (r"rbr_1x1\.bn", "conv2.norm"),
    (r"rbr_identity", "identity"),
]
_LAYER_PARTS = [
    (r"^aggregate\.", "aggregation.q_aggregation."),
    (r"^norm1\.", "aggregation.norm."),
    (r"^merge\.", "attention.o_proj."),
    (r"^([qkv])_proj\.", r"attention.\1_proj."),
    (r"^mlp\.0\.", "mlp.fc1."),
    (r"^mlp\.2\.", "mlp.fc2."),
    (r"^norm2\.", "mlp.layer_norm."),
]
_FINE_PARTS = [
    (r"^layer3_outconv\.", "out_conv."),
    (r"^layer2_outconv\.", "out_conv_layers.0.out_conv1."),
    (r"^layer1_outconv\.", "out_conv_layers.1.out_conv1."),
    (r"^layer2_outconv2\.", "out_conv_layers.0."),
    (r"^layer1_outconv2\.", "out_conv_layers.1."),
]
_OUTCONV2 = [("0.", "out_conv2."), ("1.", "batch_norm."), ("3.", "out_conv3.")]


def to_transformers_key(key: str) -> str:
    """Transformers' name of a parameter of the published checkpoint (without ``matcher.``).

    Raises:
        KeyError: the name is none of EfficientLoFTR's.
    """
    if match := re.fullmatch(r"backbone\.layer0\.(.+)", key):
        return "efficientloftr.backbone.stages.0.blocks.0." + _first(match[1], _BRANCHES, key)
    if match := re.fullmatch(r"backbone\.layer([1-3])\.(\d+)\.(.+)", key):
        place = f"efficientloftr.backbone.stages.{match[1]}.blocks.{match[2]}."
        return place + _first(match[3], _BRANCHES, key)
    if match := re.fullmatch(r"loftr_coarse\.layers\.(\d+)\.(.+)", key):
        index = int(match[1])
        kind = "self_attention" if index % 2 == 0 else "cross_attention"
        place = f"efficientloftr.local_feature_transformer.layers.{index // 2}.{kind}."
        return place + _first(match[2], _LAYER_PARTS, key)
    if match := re.fullmatch(r"fine_preprocess\.(.+)", key):
        name = _first(match[1], _FINE_PARTS, key)
        if "outconv2." in match[1]:
            head, tail = name.split(".", 2)[:2], name.split(".", 2)[2]
            for old, new in _OUTCONV2:
                if tail.startswith(old):
                    return "refinement_layer." + ".".join(head) + "." + new + tail[len(old) :]
            raise KeyError(key)
        return "refinement_layer." + name
    raise KeyError(key)


def _first(text: str, rules: list[tuple[str, str]], key: str) -> str:
    for pattern, replacement in rules:
        if re.match(pattern, text):
            return re.sub(pattern, replacement, text, count=1)
    raise KeyError(key)


def key_table(keys: list[str]) -> dict[str, str]:
    """{published name: transformers' name}; invertible, which is checked."""
    table = {key: to_transformers_key(key) for key in keys}
    if len(set(table.values())) != len(table):
        raise KeyError("two published names map to one")
    return table


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """State dict in transformers' names from a published checkpoint.

    Raises:
        CheckpointError: no file, no torch file, or not EfficientLoFTR's.
    """
    path = Path(path)
    advice = "use eloftr_outdoor.ckpt of EfficientLoFTR, or choose matcher = xfeat"
    if not path.is_file():
        raise CheckpointError(f"no EfficientLoFTR checkpoint at {path}; {advice}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"cannot read {path} as a checkpoint ({reason}); {advice}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} holds no state_dict of tensors; {advice}")
    state = {key.removeprefix(PREFIX): value for key, value in state.items()}
    try:
        table = key_table(list(state))
    except KeyError as error:
        raise CheckpointError(
            f"{path} is not EfficientLoFTR's full model (unknown tensor {error}); {advice}"
        ) from error
    if len(table) != NUM_PARAMETERS:
        raise CheckpointError(
            f"{path} holds {len(table)} of EfficientLoFTR's {NUM_PARAMETERS} tensors; {advice}"
        )
    return {table[key]: value for key, value in state.items()}


def tensors_hash(tensors: dict[str, Tensor]) -> str:
    """Short hash of named tensors: the same weights give the same text on every machine."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{array.dtype}{tuple(array.shape)}".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
