"""The normal equations on a GPU (csrc/cuda/normal.cuh): a forward pass, then three kernels."""

import ctypes
import functools

import torch
from torch import Tensor

from pose_rasterizer import cuda
from pose_rasterizer.native import pointer

MAX_CHANNELS = cuda.MAX_CHANNELS
MAX_SCRATCH_BYTES = 1 << 29  # of one call's cameras; more cameras take turns

_RESIDUALS = (
    "target weight gain offset backdrop robust_scale silhouette_target silhouette_weight"
).split()
_SCRATCH_AND_OUTPUTS = "columns parts cost hessian gradient".split()


class Normal(ctypes.Structure):
    """`PoseCudaNormal` of csrc/cuda/args.h."""

    _fields_ = [
        ("render", cuda.Args),
        *[(name, ctypes.c_void_p) for name in _RESIDUALS + _SCRATCH_AND_OUTPUTS],
        ("direction_term", ctypes.c_int32),
        ("window_light", ctypes.c_int32),
        ("contrast_floor", ctypes.c_float),
        ("silhouette_scale", ctypes.c_float),
    ]


@functools.cache
def _layout(channels: int, direction: bool) -> tuple[int, int]:
    """Floats of scratch per splat and per tile."""
    lib = cuda._library(channels).lib
    layout = (ctypes.c_int64 * 3)()
    lib.pose_cuda_normal_layout.restype = None
    lib.pose_cuda_normal_layout(ctypes.c_int32(direction), layout)
    assert layout[2] == ctypes.sizeof(Normal)
    lib.pose_cuda_normal_equations.restype = ctypes.c_char_p
    lib.pose_cuda_normal_equations.argtypes = [ctypes.c_void_p]
    return layout[0], layout[1]


def _cameras_at_once(num_gaussians: int, tiles: int, floats: tuple[int, int]) -> int:
    bytes_each = 4 * (num_gaussians * floats[0] + tiles * floats[1])
    return max(1, MAX_SCRATCH_BYTES // max(bytes_each, 1))


def _some_cameras(gaussians, viewmats, intrinsics, residuals, settings, choices, floats):
    """As `normal_equations`, for as many cameras as the scratch memory is meant for."""
    batch, channels = residuals[2].shape
    device = viewmats.device
    inputs = [*gaussians, viewmats, intrinsics, None, None]
    outputs, frame = cuda._forward(inputs, settings, True)  # kept to the end: the kernels read them
    size = 6 + (0 if choices.by_tile else 2 * channels)
    numbers = torch.empty(batch * (1 + size + size * size), dtype=torch.float64, device=device)
    cost, gradient, hessian = numbers.split([batch, batch * size, batch * size * size])
    _, tiles = cuda._cameras_and_tiles(inputs, settings)
    columns = batch * gaussians[0].shape[0] * floats[0]
    scratch = torch.empty(columns + tiles * floats[1], device=device)
    block = Normal(
        frame.args,
        *(pointer(t) for t in residuals),
        scratch.data_ptr(),
        scratch.data_ptr() + 4 * columns,
        *(t.data_ptr() for t in (cost, hessian, gradient)),
        direction_term=int(choices.direction_term),
        window_light=int(choices.by_tile),
        contrast_floor=choices.contrast_floor,
        silhouette_scale=choices.silhouette_scale,
    )
    cuda._check(frame.library.lib.pose_cuda_normal_equations(ctypes.addressof(block)))
    return cost, hessian.view(batch, size, size), gradient.view(batch, size), *outputs[:2]


def normal_equations(gaussians, viewmats, intrinsics, residuals, settings, choices):
    """cost [B], H [B, P, P], g [B, P] (float64), image [B, C, H, W], alpha [B, 1, H, W].

    Two calls give equal bits. Nothing waits for the device.

    Args:
        As `normal_native.normal_equations`; at most MAX_CHANNELS channels.
    """
    channels = residuals[2].shape[1]
    direction = choices.direction_term and settings.num_coeffs > 1 and settings.sh_degree > 0
    choices = choices._replace(direction_term=direction)
    floats = _layout(channels, direction)
    gaussians = cuda._aligned(gaussians)
    batch = viewmats.shape[0]
    _, tiles = cuda._cameras_and_tiles([*gaussians, viewmats[:1]], settings)
    step = _cameras_at_once(gaussians[0].shape[0], tiles, floats)
    if step >= batch:
        return _some_cameras(gaussians, viewmats, intrinsics, residuals, settings, choices, floats)

    def share(first: int):
        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[first : first + step]

        per_camera = [of(t) for t in residuals]
        per_camera[5] = residuals[5]  # the robust scale, [C]
        return _some_cameras(
            gaussians, of(viewmats), of(intrinsics), per_camera, settings, choices, floats
        )

    parts = [share(first) for first in range(0, batch, step)]
    return tuple(torch.cat(p) for p in zip(*parts, strict=True))
