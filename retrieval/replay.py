"""Functions of tensors recorded on a GPU and replayed: many small launches for the price of one.

The search takes a few hundred small steps whose launches cost the host more than the device. A
function that is called again and again on tensors of the same shapes is recorded as a CUDA graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# More rows, or more numbers in all, keep a GPU busy whatever their launches cost, and a recording
# keeps its memory.
FEW_ROWS, FEW_NUMBERS = 4, 2**22
RECORDED_FROM = 3  # calls: shapes that come once or twice aren't worth a recording
MOST_RECORDED = 64


@dataclass
class Recording:
    """A graph, the tensors it reads and those it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: tuple[Tensor, ...]


class Recorder:
    """Runs functions; on a GPU those of often seen shapes from a recording."""

    def __init__(self) -> None:
        self.calls: dict[Hashable, int] = {}
        self.recordings: dict[Hashable, Recording] = {}
        self.pool = None

    def run(
        self,
        name: Hashable,
        function: Callable[..., tuple[Tensor, ...]],
        shared: Sequence[Tensor],
        rows: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """`function(*shared, *rows)`: tensors [B, ...], each row of the rows' own.

        Args:
            name: whatever else the result depends on. Equal names, equal functions.
            shared: tensors that all rows read.
            rows: tensors [B, ...]; on a GPU the function sees more rows, copies of the first.
        """
        if not rows[0].is_cuda:
            return function(*shared, *rows)
        count = len(rows[0])
        inputs = [*shared, *(padded(tensor, padded_size(count)) for tensor in rows)]
        key = (name, *((tensor.shape, tensor.dtype) for tensor in inputs))
        recording = self.recordings.get(key)
        if recording is None:
            self.calls[key] = self.calls.get(key, 0) + 1
            if self.calls[key] < RECORDED_FROM or len(self.recordings) >= MOST_RECORDED:
                return tuple(out[:count] for out in function(*inputs))
            recording = self.recordings[key] = self._recorded(function, inputs)
        for own, tensor in zip(recording.inputs, inputs, strict=True):
            own.copy_(tensor)
        recording.graph.replay()
        return tuple(out[:count].clone() for out in recording.outputs)

    @torch.no_grad()
    def _recorded(self, function, inputs: Sequence[Tensor]) -> Recording:
        own = [tensor.clone() for tensor in inputs]
        graph = torch.cuda.CUDAGraph()
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        # results are copied out after each replay, so all recordings may use the same memory
        with torch.cuda.graph(graph, pool=self.pool):
            outputs = function(*own)
        return Recording(graph, own, outputs)


@functools.cache
def _recorder(device: torch.device) -> Recorder:
    return Recorder()


def replayed(
    name: Hashable,
    function: Callable[..., tuple[Tensor, ...]],
    shared: Sequence[Tensor],
    rows: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """`Recorder.run` with one recorder for a device where little is done, else the function itself.

    A function may read no tensors but its arguments and `constant`s: others may be freed before a
    recording ends.
    """
    few = len(rows[0]) <= FEW_ROWS and sum(map(Tensor.numel, rows)) <= FEW_NUMBERS
    if rows[0].is_cuda and few:
        return _recorder(rows[0].device).run(name, function, shared, rows)
    return function(*shared, *rows)


def padded_size(count: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, 24 .. that is not below `count`: few shapes occur."""
    size = 1
    while size < count:
        size = size * 3 // 2 if size & (size - 1) == 0 and size > 1 else size // 3 * 4 or 2
    return size


def padded(tensor: Tensor, size: int) -> Tensor:
    """[B, ...] -> [size, ...], its first row again below."""
    if size == len(tensor):
        return tensor
    return torch.cat([tensor, tensor[:1].expand(size - len(tensor), *tensor.shape[1:])])
