"""The CUDA back end: float32, contiguous tensors in, tensors out, nothing waits for the device.

The tile lists' length is known only on the device. Their memory is sized by what earlier calls of
the same shape needed (the device reports it into pinned memory); a tile whose list finds no room
searches the whole scene instead, so results never depend on the guess, only that call's time does.
"""

import ctypes
import functools
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from pose_rasterizer import build_cuda
from pose_rasterizer.errors import BuildError
from pose_rasterizer.native import pointer
from pose_rasterizer.room import NUM_SLOTS, Capacities

ABI = 3  # of csrc/cuda/api.cu
TILE_PX = 16  # kTile of csrc/cuda/args.h
MAX_CHANNELS = build_cuda.CHANNELS[-1]
COUNTER_WORDS = 8  # kCounterWords
MAX_ORDERED = 4096  # kMaxOrdered
MAX_PACKED = 1 << 24  # 1 << kIdBits: Gaussians whose list entries have room for a mask
MAX_ADJOINT_BLOCKS = 396  # 3 on each of 132 multiprocessors

_POINTERS = (
    "means quats scales opacities features viewmats intrinsics backgrounds offsets"
    " image alpha depth radii splats begins used ids masks order total counters keys host_total"
    " v_image v_alpha v_depth sums tickets bounds pose_parts"
    " v_means v_quats v_scales v_opacities v_features v_viewmats v_offsets stream"
).split()
_INTS = (
    "num_cameras num_coeffs sh_degree width height keep deterministic device adjoint_blocks"
    " multiprocessors"
).split()


_NO_GRADIENTS = (None,) * 14  # v_image .. v_offsets


class Args(ctypes.Structure):
    """`PoseCudaArgs` of csrc/cuda/args.h."""

    _fields_ = [
        *[(name, ctypes.c_void_p) for name in _POINTERS],
        *[(name, ctypes.c_int64) for name in ("num_gaussians", "capacity", "sum_stride")],
        *[(name, ctypes.c_int32) for name in _INTS],
        ("near", ctypes.c_float),
    ]


@dataclass(frozen=True)
class Library:
    """A loaded library and the layout facts it reports."""

    lib: ctypes.CDLL
    record_floats: int  # per splat
    sum_floats: int  # per splat, backward
    pose_floats: int  # per camera and block
    splats_per_part: int
    row_floats: int  # that a row of v_features must have to hold the sums
    numbers: list[int]  # `Library` of csrc/torch/registry.h


@functools.cache
def _library(channels: int) -> Library:
    lib = build_cuda.load_library(channels)
    layout = (ctypes.c_int64 * 8)()
    lib.pose_cuda_layout(layout)
    assert layout[0] == ABI and layout[1] == channels and layout[6] == ctypes.sizeof(Args)
    calls = lib.pose_cuda_forward, lib.pose_cuda_backward_tiles, lib.pose_cuda_backward_splats
    for call in calls:
        call.restype, call.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    lib.pose_cuda_backward_tiles.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    addresses = [ctypes.cast(call, ctypes.c_void_p).value for call in calls]
    facts = [*layout[2:6], layout[7]]
    return Library(lib, *facts, addresses + facts)


def library(channels: int) -> None:
    """Builds and loads what `channels` colours need. Raises BuildError."""
    for size in {min(channels, MAX_CHANNELS), channels % MAX_CHANNELS or MAX_CHANNELS}:
        _library(size)


def _stream(device: int) -> int:
    """Address of torch's current stream on the device."""
    return torch._C._cuda_getCurrentRawStream(device)


@functools.cache
def _multiprocessors(device: int) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@functools.cache
def _memory_limit(device: int) -> int:
    """Entries whose lists take a quarter of the device's memory."""
    return torch.cuda.get_device_properties(device).total_memory // 4 // 12


@functools.cache
def _capacities(device: int, quick: bool = False) -> Capacities:
    """Of calls from Python; `quick`: memory of csrc/torch/registry.h, which has the same rule."""
    return Capacities()


@dataclass
class Frame:
    """What forward leaves for backward: the parameter block and the memory it points to.

    memory is None once a backward pass has freed it; another one renders again.
    """

    library: Library
    args: Args
    memory: Tensor | None


def _carve(start: int, *sizes: int) -> list[int]:
    """Addresses of consecutive pieces (bytes) from `start` on."""
    out = []
    for size in sizes:
        out.append(start)
        start += size
    return out


def _cameras_and_tiles(inputs, settings) -> tuple[int, int]:
    batch = inputs[5].shape[:-2]  # () for one camera without a leading dimension
    cameras = batch[0] if batch else 1
    height, width = settings.size
    tiles = cameras * (-(-height // TILE_PX)) * (-(-width // TILE_PX))
    if tiles >= 2**31:
        raise ValueError(
            f"{cameras} cameras of {width}x{height} px are too many tiles for one call; render"
            " fewer at once"
        )
    return cameras, tiles


def _room(inputs, settings, cameras: int) -> tuple[int, int]:
    """(list entries to make room for, address that receives the entries needed)."""
    index = inputs[0].device.index or 0
    shape = (cameras, *settings.size)
    splats = cameras * inputs[0].shape[0]
    return _capacities(index).choose(shape, splats, _memory_limit(index))


def _forward(inputs, settings, keep: bool):
    means, quats, scales, opacities, features, viewmats, intrinsics, backgrounds, offsets = inputs
    n, channels = means.shape[0], features.shape[-1]
    batch = viewmats.shape[:-2]
    height, width = settings.size
    device = means.device
    lib = _library(channels)
    index = device.index or 0
    cameras, tiles = _cameras_and_tiles(inputs, settings)
    capacity, host_total = _room(inputs, settings, cameras)

    image = torch.empty((*batch, channels, height, width), device=device)
    alpha = torch.empty((*batch, 1, height, width), device=device)
    depth = torch.empty((*batch, 1, height, width), device=device)
    radii = torch.empty((*batch, n), dtype=torch.int32, device=device)
    records = cameras * n * lib.record_floats
    ordered = tiles if n > 0 and tiles <= MAX_ORDERED else 0
    mask_bytes = capacity if n > MAX_PACKED else 0
    words = records + 2 * tiles + ordered + capacity + -(-mask_bytes // 4)
    memory = torch.empty(words, device=device)
    scratch = torch.empty(2 * capacity + COUNTER_WORDS * (1 + tiles), device=device)
    splats, begins, used, order, ids, masks = _carve(
        memory.data_ptr(), 4 * records, 4 * tiles, 4 * tiles, 4 * ordered, 4 * capacity, mask_bytes
    )
    counters = 4 * COUNTER_WORDS * tiles
    total, counters, keys = _carve(scratch.data_ptr(), 4 * COUNTER_WORDS, counters, 8 * capacity)
    args = Args(
        means.data_ptr(), quats.data_ptr(), scales.data_ptr(), opacities.data_ptr(),
        features.data_ptr(), viewmats.data_ptr(), intrinsics.data_ptr(), pointer(backgrounds),
        pointer(offsets), image.data_ptr(), alpha.data_ptr(), depth.data_ptr(), radii.data_ptr(),
        splats, begins, used, ids, masks if mask_bytes else None, order if ordered else None, total,
        counters, keys, host_total, *_NO_GRADIENTS, _stream(index), n, capacity, 0, cameras,
        settings.num_coeffs, settings.sh_degree, width, height, int(keep), 0, index, 0,
        _multiprocessors(index), settings.near,
    )  # fmt: skip
    _check(lib.lib.pose_cuda_forward(ctypes.addressof(args)))
    return (image, alpha, depth, radii), Frame(lib, args, memory) if keep else None


_ADJOINT_OUTPUTS = (
    (0, "v_means"), (1, "v_quats"), (2, "v_scales"), (3, "v_opacities"), (5, "v_viewmats"),
    (8, "v_offsets"),
)  # fmt: skip
_TENSORS = _POINTERS[:13]  # inputs, then outputs of forward


def _point_to(args: Args, inputs, outputs) -> None:
    """Autograd may hand back other memory than it was given (hooks on saved tensors)."""
    for name, tensor in zip(_TENSORS, (*inputs, *outputs), strict=True):
        setattr(args, name, pointer(tensor))


def _check(message: bytes | None) -> None:
    if message is not None:
        raise RuntimeError(f"the CUDA rasterizer failed: {message.decode()}")


def _backward(inputs, outputs, frame: Frame, grads, wanted):
    args, lib = frame.args, frame.library
    device = inputs[0].device
    wanted = [t is not None and w for t, w in zip(inputs, wanted, strict=True)]
    like = [None] * len(inputs)
    v_image, v_alpha, v_depth = grads
    deterministic = torch.are_deterministic_algorithms_enabled()
    n, cameras = args.num_gaussians, args.num_cameras
    # one camera's sums fit into the rows of v_features, which are written only after they are read
    row = inputs[4][0].numel() if wanted[4] and n > 0 else 0
    inside = cameras == 1 and not deterministic and row % 8 == 0 and row >= lib.row_floats
    sums = 0 if inside else cameras * n * lib.sum_floats * (2 if deterministic else 1)
    blocks = -(-n // lib.splats_per_part)
    if cameras == 1 or not any(wanted[:5]):  # blocks of one camera loop
        blocks = min(blocks, MAX_ADJOINT_BLOCKS)
    parts = cameras * blocks * lib.pose_floats if wanted[5] else 0
    args.adjoint_blocks = blocks
    if wanted[7]:
        like[7] = torch.zeros_like(inputs[7])
        if v_image is not None:
            like[7] = (v_image * (1 - outputs[1])).sum((-2, -1)).view_as(inputs[7])
    if n == 0:
        return [
            torch.zeros_like(t) if w and v is None else v
            for t, w, v in zip(inputs, wanted, like, strict=True)
        ]
    tickets = -(-cameras // 4) * 4  # what follows stays aligned to 16 bytes
    scratch = torch.empty(sums + tickets + 8 + parts, device=device)
    args.sums, args.tickets, args.bounds, args.pose_parts = _carve(
        scratch.data_ptr(), 4 * sums, 4 * tickets, 32, 4 * parts
    )
    args.sum_stride = row if inside else lib.sum_floats
    if wanted[4]:
        like[4] = torch.empty_like(inputs[4])
    args.v_features = pointer(like[4])
    if inside:
        args.sums = args.v_features
    _point_to(args, inputs, outputs)
    args.v_image, args.v_alpha, args.v_depth = pointer(v_image), pointer(v_alpha), pointer(v_depth)
    args.deterministic = int(deterministic)
    args.stream = _stream(device.index or 0)
    address = ctypes.addressof(args)
    cleared = 4 * (sums + tickets + 8)
    _check(lib.lib.pose_cuda_backward_tiles(address, scratch.data_ptr(), cleared))
    if inside:
        frame.memory = None  # room for the gradients: the stream uses it for the tiles first
    for k, name in _ADJOINT_OUTPUTS:
        if wanted[k]:
            like[k] = torch.empty_like(inputs[k])
        setattr(args, name, pointer(like[k]))
    _check(lib.lib.pose_cuda_backward_splats(address))
    return like


def _alive(frame: Frame, inputs, settings) -> Frame:
    """The frame, rendered again if an earlier backward pass has freed its memory."""
    return frame if frame.memory is not None else _forward(inputs, settings, True)[1]


def _aligned(inputs):
    """Rows of features are read 16 bytes at a time: a view that starts between is copied."""
    if inputs[4].data_ptr() % 16 == 0:
        return inputs
    return [t.clone() if k == 4 else t for k, t in enumerate(inputs)]


def _groups(channels: int) -> list[tuple[int, int]]:
    return [(c, min(c + MAX_CHANNELS, channels)) for c in range(0, channels, MAX_CHANNELS)]


def _share(inputs, first: int, end: int) -> list:
    """The inputs with only channels first..end of features and background."""
    share = list(inputs)
    share[4] = inputs[4][..., first:end].contiguous()
    share[7] = None if inputs[7] is None else inputs[7][..., first:end].contiguous()
    return share


@functools.cache
def _ops():
    """torch.ops.pose_rasterizer, or None where it can't be built."""
    try:
        torch.ops.load_library(str(build_cuda.build_autograd()))
    except (BuildError, OSError) as error:
        warnings.warn(f"{error}; gradients take a slower way", RuntimeWarning, stacklevel=2)
        return None
    return torch.ops.pose_rasterizer


_registered: set[tuple[int, int]] = set()  # (device, channels) that `rasterize` may be called with


def _takes(means: Tensor) -> bool:
    return means.is_cuda


def register(means: Tensor, channels: int) -> bool:
    """Makes this device and number of channels known to `rasterize`; False where it can't serve."""
    device = means.get_device()
    if (device, channels) in _registered:
        return True
    ops = _ops()
    if ops is None or channels > MAX_CHANNELS:
        return False
    ops.add_library(channels, _library(channels).numbers)
    if all(device != known for known, _ in _registered):
        slots = _capacities(max(device, 0), quick=True).address
        numbers = [slots, NUM_SLOTS, _multiprocessors(max(device, 0)), MAX_ADJOINT_BLOCKS]
        ops.add_device(device, numbers)
    _registered.add((device, channels))
    return True


def rasterize(
    means, quats, scales, opacities, sh, colours, viewmat, intrinsics, background, offset, size,
    sh_degree, near,
):  # fmt: skip
    """The whole operator in one call (csrc/torch), its gradients recorded by autograd in C++.

    Returns:
        [image, alpha, depth, radii], or something false where Python has to see to it: a device or
        number of channels not registered, tensors that don't fit together, no C++.
    """
    if not _registered or not _takes(means):
        return None
    index = means.get_device()
    height, width = size
    degree = -1 if sh_degree is None else sh_degree
    return torch.ops.pose_rasterizer.rasterize.default(
        means, quats, scales, opacities, sh, colours, viewmat, intrinsics, background, offset,
        height, width, degree, near, _memory_limit(index), _stream(index),
    )  # fmt: skip


def forward(inputs, settings, keep: bool):
    """Renders all cameras in one set of launches; more than 8 channels take several.

    Args:
        inputs: means [N,3], quats [N,4], scales [N,3], opacities [N], features [N,K,C] or [N,C],
            viewmats [B,4,4], intrinsics [B,3,3], backgrounds [B,C] or None (zeros), offsets [B,N,2]
            or None; one camera also without the leading [B].
        keep: whether backward will be called.
    Returns:
        (image [B,C,H,W], alpha [B,1,H,W], depth [B,1,H,W], radii [B,N]), without B where viewmats
        has none, and a list of frames.
    """
    inputs = _aligned(inputs)
    channels = inputs[4].shape[-1]
    if channels <= MAX_CHANNELS:
        outputs, frame = _forward(inputs, settings, keep)
        return outputs, [frame]
    done = [_forward(_share(inputs, *g), settings, keep) for g in _groups(channels)]
    image = torch.cat([outputs[0] for outputs, _ in done], -3)
    return (image, *done[0][0][1:]), [frame for _, frame in done]


def backward(inputs, outputs, frames, settings, grads, wanted):
    """Gradients of the inputs, shared by the cameras; repeatable to the bit where torch's
    deterministic algorithms are switched on.

    Args:
        grads: dL/d(image, alpha, depth), each like the output or None.
        wanted: for each of the inputs whether its gradient is needed (intrinsics: never).
    Returns:
        A list like `inputs`, None where not wanted.
    """
    grads = [None if g is None else g.contiguous() for g in grads]
    inputs = _aligned(inputs)
    channels = outputs[0].shape[-3]
    if channels <= MAX_CHANNELS:
        return _backward(inputs, outputs, _alive(frames[0], inputs, settings), grads, wanted)
    totals = None
    for frame, (first, end) in zip(frames, _groups(channels), strict=True):
        share = _share(inputs, first, end)
        images = outputs[0][..., first:end, :, :].contiguous()
        v_image = None if grads[0] is None else grads[0][..., first:end, :, :].contiguous()
        others = grads[1:] if first == 0 else (None, None)
        frame = _alive(frame, share, settings)
        found = _backward(share, (images, *outputs[1:]), frame, (v_image, *others), wanted)
        totals = [[v] for v in found] if totals is None else [
            [*t, v] for t, v in zip(totals, found, strict=True)
        ]  # fmt: skip
    joined = {4: lambda parts: torch.cat(parts, -1), 7: lambda parts: torch.cat(parts, -1)}
    return [
        None if parts[0] is None else joined.get(k, lambda p: torch.stack(p).sum(0))(parts)
        for k, parts in enumerate(totals)
    ]
