"""The C parameter blocks of csrc/common/schema.h, for every compiled back end."""

import ctypes

from torch import Tensor


def _pointers(*names):
    return [(name, ctypes.c_void_p) for name in names]


def _ints(*names):
    return [(name, ctypes.c_int32) for name in names]


class Scene(ctypes.Structure):
    """`PoseScene`."""

    _fields_ = [
        *_pointers("means", "quats", "scales", "opacities", "features"),
        *_pointers("viewmat", "intrinsics", "background", "offset"),
        ("num_gaussians", ctypes.c_int64),
        *_ints("num_channels", "num_coeffs", "sh_degree", "width", "height"),
        ("near", ctypes.c_float),
        *_ints("num_threads"),
    ]


class Images(ctypes.Structure):
    """`PoseImages`."""

    _fields_ = _pointers("image", "alpha", "depth", "radii")


class Gradients(ctypes.Structure):
    """`PoseGradients`."""

    _fields_ = [
        *_pointers("v_image", "v_alpha", "v_depth"),
        *_pointers("v_means", "v_quats", "v_scales", "v_opacities", "v_features"),
        *_pointers("v_viewmat", "v_background", "v_offset"),
        *_ints("accumulate"),
    ]


def pointer(tensor: Tensor | None) -> int | None:
    """Address of a contiguous tensor's data, None for None."""
    return None if tensor is None else tensor.data_ptr()
