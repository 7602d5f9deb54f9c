"""The host's share of a call of the CUDA rasterizer, measured without a GPU.

    python benchmarks/rasterizer_host.py [--repeats 20] [--calls 2000]

The kernels' entry points are replaced by functions that return at once, and the tensors lie on the
CPU, so what remains is Python, checks, allocations and autograd. A GPU adds what it takes to queue
the launches (five forward, two backward) and its allocator. Prints microseconds of processor time
per call: least and median of the repeats. `torch alone`: a step of one multiplication, for what
autograd itself takes.
"""

import argparse
import ctypes
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from pose_rasterizer import build, cuda, ops, rasterize

CHANNELS = 3
LIBRARY = r"""
#include "args.h"
using namespace pose_rasterizer;
#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT void pose_cuda_layout(int64_t out[8]) {
    out[0] = ABI, out[1] = 3, out[2] = 4 * kSplatVectors<3>, out[3] = kSumFloats<3>;
    out[4] = kPoseFloats, out[5] = 128, out[6] = sizeof(PoseCudaArgs), out[7] = kRowFloats<3>;
}
EXPORT const char* pose_cuda_forward(const PoseCudaArgs*) { return nullptr; }
EXPORT const char* pose_cuda_backward_tiles(const PoseCudaArgs*, void*, int64_t) { return nullptr; }
EXPORT const char* pose_cuda_backward_splats(const PoseCudaArgs*) { return nullptr; }
"""


def install_idle_library(folder: Path) -> None:
    """Lets the CUDA back end run on CPU tensors with entry points that do nothing."""
    source, library = folder / "idle.cpp", folder / "idle.so"
    source.write_text(LIBRARY.replace("ABI", str(cuda.ABI)))
    flags = ["-std=c++17", "-O2", "-fPIC", "-shared", f"-I{build.source_folder() / 'cuda'}"]
    subprocess.run([build.find_compiler(), *flags, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    cuda.build_cuda.load_library = lambda channels: loaded
    cuda._memory_limit = lambda device: 1 << 20
    cuda._multiprocessors = lambda device: 132
    cuda._stream = lambda device: 0
    cuda._takes = lambda means: True

    def choose(backend, means, channels):
        cuda.library(channels)
        return cuda

    ops._choose = choose


def make_calls() -> dict:
    """Functions to time, by name. Small tensors: their size costs the host nothing."""
    n, size = 64, (16, 16)
    gaussians = [torch.randn(n, 3), torch.randn(n, 4), torch.rand(n, 3), torch.rand(n)]
    given = {"sh": torch.randn(n, 16, CHANNELS), "intrinsics": torch.eye(3), "size": size}
    still, moving = torch.eye(4), torch.eye(4).requires_grad_()
    v_image, v_viewmat = torch.ones(CHANNELS, *size), torch.ones(4, 4)

    def recorded():
        return rasterize(*gaussians, viewmat=moving, **given)

    return {
        "forward": lambda: rasterize(*gaussians, viewmat=still, **given),
        "forward, gradient recorded": recorded,
        "forward and pose gradient": lambda: torch.autograd.grad(recorded().image, moving, v_image),
        "torch alone": lambda: torch.autograd.grad(2 * moving, moving, v_viewmat),
    }


def time_call(call, repeats: int, calls: int) -> tuple[float, float]:
    """Least and median microseconds of processor time per call."""
    for _ in range(calls // 4):
        call()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        for _ in range(calls):
            call()
        times.append(1e6 * (time.process_time() - began) / calls)
    return min(times), statistics.median(times)


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--calls", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        install_idle_library(Path(folder))
        for name, call in make_calls().items():
            least, median = time_call(call, args.repeats, args.calls)
            print(f"{name}: {least:.1f} us, median {median:.1f} us")


if __name__ == "__main__":
    main()
