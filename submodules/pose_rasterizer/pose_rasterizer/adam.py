"""Adam's step over all leaves in one compiled call (csrc/cpu/adam.cpp, csrc/fit/adam.cuh).

Kingma & Ba 2015, algorithm 1. The gradient of a leaf may be by its activated value (exp or sigmoid
of it): then the activation is no part of any graph, and its chain rule is done here.
"""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pose_rasterizer import cuda, fit_native
from pose_rasterizer.errors import BuildError
from pose_rasterizer.native import pointer

BETA1, BETA2 = 0.9, 0.999
ACTIVATIONS = {
    "identity": fit_native.IDENTITY,
    "exp": fit_native.EXP,
    "sigmoid": fit_native.SIGMOID,
}


@dataclass
class AdamLeaf:
    """A tensor that Adam moves. float32, contiguous, all of one shape and on one device.

    Attributes:
        value: before the activation.
        first, second: moments.
        steps: taken so far.
        rate: learning rate; of [N, K, ...] tensors with `rate_rest`, of the first of the K alone.
        rate_rest: of the other K - 1; None: the same.
        activation: "identity", "exp" or "sigmoid".
        activated: the activated value that the gradient is of; not written.
    """

    value: Tensor
    first: Tensor
    second: Tensor
    steps: int
    rate: float
    rate_rest: float | None = None
    activation: str = "identity"
    activated: Tensor | None = None


def adam_step(leaves: Sequence[AdamLeaf], gradients: Sequence[Tensor], epsilon: float) -> None:
    """Take one step of every leaf, in place; `steps` rises by one."""
    for leaf in leaves:
        leaf.steps += 1
    if not leaves:
        return
    on_gpu = cuda._takes(leaves[0].value)
    try:
        library = fit_native.cuda_library() if on_gpu else fit_native.cpu_library()
    except BuildError:  # no compiler: the rasterizer has warned of it already
        for leaf, gradient in zip(leaves, gradients, strict=True):
            _step_in_torch(leaf, gradient, epsilon)
        return
    gradients = [g.contiguous() for g in gradients]
    index = leaves[0].value.device.index or 0
    block = fit_native.Adam(
        (fit_native.Leaf * fit_native.MAX_LEAVES)(*map(_block, leaves, gradients)),
        cuda._stream(index) if on_gpu else None, len(leaves), index, BETA1, BETA2, epsilon,
    )  # fmt: skip
    if on_gpu:
        fit_native.check(library.pose_fit_adam(ctypes.addressof(block)))
    else:
        library.pose_cpu_adam(ctypes.addressof(block), torch.get_num_threads())


def _block(leaf: AdamLeaf, gradient: Tensor) -> fit_native.Leaf:
    value = leaf.value
    correction = 1 - BETA1**leaf.steps
    row = head = 1
    rest = leaf.rate
    if leaf.rate_rest is not None:
        row = value.shape[1:].numel()
        head = value.shape[2:].numel()
        rest = leaf.rate_rest
    return fit_native.Leaf(
        value.data_ptr(), gradient.data_ptr(), leaf.first.data_ptr(), leaf.second.data_ptr(),
        pointer(leaf.activated), value.numel(), ACTIVATIONS[leaf.activation], row, head,
        leaf.rate / correction, rest / correction, math.sqrt(1 - BETA2**leaf.steps),
    )  # fmt: skip


@torch.no_grad()
def _step_in_torch(leaf: AdamLeaf, gradient: Tensor, epsilon: float) -> None:
    if leaf.activation == "exp":
        gradient = gradient * leaf.activated
    elif leaf.activation == "sigmoid":
        gradient = gradient * leaf.activated * (1 - leaf.activated)
    leaf.first.lerp_(gradient, 1 - BETA1)
    leaf.second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    root = math.sqrt(1 - BETA2**leaf.steps)
    step = leaf.first / (leaf.second.sqrt() / root + epsilon)
    step /= 1 - BETA1**leaf.steps
    if leaf.rate_rest is None:
        leaf.value.sub_(step, alpha=leaf.rate)
    else:
        leaf.value[:, :1].sub_(step[:, :1], alpha=leaf.rate)
        leaf.value[:, 1:].sub_(step[:, 1:], alpha=leaf.rate_rest)
