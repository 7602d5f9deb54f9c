"""The C parameter blocks of csrc/fit/args.h, and the libraries that take them."""

import ctypes
import functools

from pose_rasterizer import build, build_cuda

WINDOW_TAPS = 11
MAX_LEAVES = 8
IDENTITY, EXP, SIGMOID = range(3)  # Activation


class Loss(ctypes.Structure):
    """`PoseFitLoss`."""

    _fields_ = [
        *[
            (name, ctypes.c_void_p)
            for name in "image target alpha_sign v_image v_alpha maps parts means stream".split()
        ],
        *[
            (name, ctypes.c_int32)
            for name in "channels height width num_parts target_bytes only_outside device".split()
        ],
        *[(name, ctypes.c_float) for name in ("ssim_weight", "scale", "alpha_scale")],
        ("window", ctypes.c_float * WINDOW_TAPS),
    ]


class Leaf(ctypes.Structure):
    """`PoseFitLeaf`."""

    _fields_ = [
        *[
            (name, ctypes.c_void_p)
            for name in ("value", "gradient", "first", "second", "activated")
        ],
        ("count", ctypes.c_int64),
        *[(name, ctypes.c_int32) for name in ("activation", "row", "head")],
        *[(name, ctypes.c_float) for name in ("rate", "rate_rest", "root")],
    ]


class Adam(ctypes.Structure):
    """`PoseFitAdam`."""

    _fields_ = [
        ("leaves", Leaf * MAX_LEAVES),
        ("stream", ctypes.c_void_p),
        *[(name, ctypes.c_int32) for name in ("num_leaves", "device")],
        *[(name, ctypes.c_float) for name in ("beta1", "beta2", "epsilon")],
    ]


@functools.cache
def cpu_library() -> ctypes.CDLL:
    """The CPU back end with the fit's functions declared. Raises BuildError."""
    library = build.load_library("cpu")
    library.pose_cpu_photometric.restype = None
    library.pose_cpu_photometric.argtypes = (
        [ctypes.c_void_p] * 3 + [ctypes.c_int32] * 4 + [ctypes.c_float] * 2 + [ctypes.c_int32]
    ) + [ctypes.c_void_p] * 2
    library.pose_cpu_adam.restype = None
    library.pose_cpu_adam.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    return library


@functools.cache
def cuda_library() -> ctypes.CDLL:
    """The fit's CUDA kernels. Raises BuildError."""
    library = build_cuda.load_fit_library()
    layout = (ctypes.c_int64 * 4)()
    library.pose_fit_layout.restype = None
    library.pose_fit_layout(layout)
    assert list(layout) == [ctypes.sizeof(Loss), ctypes.sizeof(Adam), LOSS_TILE, MAX_LEAVES]
    for call in (library.pose_fit_loss, library.pose_fit_adam):
        call.restype, call.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    return library


LOSS_TILE = 16  # kLossTile of csrc/fit/photometric.cuh


def check(message: bytes | None) -> None:
    """Raise for what a CUDA call says went wrong."""
    if message is not None:
        raise RuntimeError(f"the fit's CUDA kernels failed: {message.decode()}")
