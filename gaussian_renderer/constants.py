"""Small constant tensors, made once for each device: a copy to a GPU waits, and costs a launch."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.lru_cache(maxsize=1024)
def _constant(values: tuple, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # it may serve a computation with gradients next
        return torch.tensor(values, device=device, dtype=dtype)


_recorded: list[Tensor] = []  # what recordings read stays


def constant(values: tuple, like: Tensor) -> Tensor:
    """Numbers (nested tuples) as a tensor of the device and type of `like`; not to be changed."""
    made = _constant(values, like.device, like.dtype)
    if made.is_cuda and torch.cuda.is_current_stream_capturing():
        _recorded.append(made)
    return made
