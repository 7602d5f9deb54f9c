"""The CUDA rasterizer beside gsplat: times, memory and distance to the machine's floor.

    python benchmarks/rasterizer.py [--json out.json] [--sizes 100000x400x400 ...] [--repeats 30]

Scene: N Gaussians on a unit shell, anisotropic, SH degree 3, opacity 0.05..0.95, camera at 3.2,
horizontal field of view 0.7 rad. Both rasterizers see the same tensors in the same process, in
turns (ROUNDS of --repeats calls each); times are medians over single calls between device events,
host work included; the ratio is the median of the rounds' ratios. host_ms: until a call returns;
empty_ms: the same step with nothing in the rasterizer's place. gsplat (packed=False) is optional.
Floor: bytes that must move once over the copy bandwidth measured here, or the arithmetic of the
(pixel, splat) pairs over the FP32 rate, whichever is longer.
"""

import argparse
import json
import math
import statistics
import subprocess
import time
from pathlib import Path

import torch
from pose_rasterizer import rasterize

SIZES = ("100000x400x400", "300000x800x800", "1000000x1080x1920")
CHANNELS, SH_COEFFS = 3, 16
ROUNDS, WARM_CALLS = 5, 50  # the first calls of a process wake threads and fill caches
PAIR_OPS = {"forward": 14, "pose": 14 + 50, "gaussians": 14 + 50}  # FP32 instructions per pair
BARS = {  # of issue "The CUDA rasterizer": ratio to gsplat
    "100000x400x400": {"forward": 0.25, "pose": 0.20, "gaussians": 0.35},
    "300000x800x800": {"forward": 0.4, "pose": 0.35, "gaussians": 0.5},
    "1000000x1080x1920": {"forward": 0.8, "pose": 0.6, "gaussians": 0.75},
}


def make_scene(count: int, height: int, width: int, seed: int = 0, device: str = "cuda") -> dict:
    """Tensors of the benchmark scene."""
    g = torch.Generator().manual_seed(seed)
    direction = torch.randn(count, 3, generator=g)
    shell = 1 - 0.1 * torch.rand(count, 1, generator=g)
    size = 2 / math.sqrt(count)  # the shell stays covered about equally at any count
    focal = 0.5 * width / math.tan(0.35)
    viewmat = torch.eye(4)
    viewmat[2, 3] = 3.2
    scene = {
        "means": direction / direction.norm(dim=1, keepdim=True) * shell,
        "quats": torch.randn(count, 4, generator=g),
        "scales": size * torch.exp(2 * torch.rand(count, 3, generator=g) - 1),
        "opacities": 0.05 + 0.9 * torch.rand(count, generator=g),
        "sh": 0.3 * torch.randn(count, SH_COEFFS, CHANNELS, generator=g),
        "viewmat": viewmat,
        "intrinsics": torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]),
        "weight": torch.randn(CHANNELS, height, width, generator=g),
    }
    return {k: v.to(device).contiguous() for k, v in scene.items()}


MODEL = ("means", "quats", "scales", "opacities", "sh")
WANTED = {"forward": (), "pose": ("viewmat",), "gaussians": MODEL}


def render_ours(s: dict, size) -> torch.Tensor:
    return rasterize(
        *(s[k] for k in MODEL[:4]), sh=s["sh"], viewmat=s["viewmat"],
        intrinsics=s["intrinsics"], size=size,
    ).image  # fmt: skip


def render_gsplat(s: dict, size) -> torch.Tensor:
    from gsplat import rasterization

    image, _, _ = rasterization(
        *(s[k] for k in MODEL[:4]), s["sh"], s["viewmat"][None], s["intrinsics"][None],
        size[1], size[0], near_plane=0.01, sh_degree=3, packed=False,
    )  # fmt: skip
    return image[0].permute(2, 0, 1)


def make_step(render, scene: dict, size, mode: str):
    """A function that does one forward (and backward), returning image and gradients."""
    s = {k: v.detach().clone() for k, v in scene.items()}
    leaves = [s[k].requires_grad_() for k in WANTED[mode]]

    def step():
        image = render(s, size)
        if not leaves:
            return image, ()
        return image, torch.autograd.grad((image * s["weight"]).sum(), leaves)

    return step


def single_calls(step, repeats: int, warmup: int = 5) -> list[float]:
    """ms of each of `repeats` calls that nothing overlaps."""
    for _ in range(warmup):
        step()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        step()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times


def summary(times: list[float]) -> dict:
    """Median and quartiles, ms."""
    low, median, high = statistics.quantiles(times, n=4)
    return {"ms": median, "ms_quartiles": [low, high]}


def peak_mib(step) -> float:
    """Peak memory of a call beyond what it found, MiB."""
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def measure(step, repeats: int) -> dict:
    """Median and quartiles of single calls, ms; peak memory of a call, MiB."""
    return {"peak_mib": peak_mib(step), **summary(single_calls(step, repeats))}


def measure_in_turns(ours, other, repeats: int) -> tuple[dict, dict, list[float]]:
    """`measure` of both, a round of one after a round of the other, and the rounds' ratios."""
    peaks = [peak_mib(step) for step in (ours, other)]
    for step in (ours, other):
        single_calls(step, WARM_CALLS, 0)
    rounds = [[single_calls(step, repeats) for step in (ours, other)] for _ in range(ROUNDS)]
    ratios = [statistics.median(a) / statistics.median(b) for a, b in rounds]
    both = [{"peak_mib": peaks[k], **summary([t for r in rounds for t in r[k]])} for k in (0, 1)]
    return *both, ratios


def measure_graph(step, repeats: int) -> float:
    """Median ms of a captured step: the device's own time, without the host's."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return measure(graph.replay, repeats)["ms"]


def host_time(step, repeats: int) -> float:
    """Median ms until a call returns, the device left to itself: what the host has to do."""
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        began = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - began))
    torch.cuda.synchronize()
    return statistics.median(times)


class _Nothing(torch.autograd.Function):
    """In the rasterizer's place: a given image, an uninitialised gradient, no kernels."""

    @staticmethod
    def forward(ctx, leaf, image):
        ctx.leaf = leaf
        return image.detach()

    @staticmethod
    def backward(ctx, v_image):
        return torch.empty_like(ctx.leaf), None


def empty_step(scene: dict, size):
    """A pose step without a rasterizer: what torch itself takes for loss and autograd."""
    image = torch.rand(CHANNELS, *size, device="cuda")
    return make_step(lambda s, size: _Nothing.apply(s["viewmat"], image), scene, size, "pose")


def kernel_times(step, repeats: int = 10) -> dict:
    """Mean microseconds per call of each kernel, by name."""
    from torch.profiler import ProfilerActivity, profile

    step()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as prof:
        for _ in range(repeats):
            step()
        torch.cuda.synchronize()
    found = {}
    for event in prof.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            name = event.name.split("(")[0].split("<")[0].removeprefix("void ")
            found[name] = found.get(name, 0.0) + event.device_time_total / repeats
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def copy_bandwidth() -> float:
    """Bytes per second of a large copy on the device, read and written."""
    a = torch.empty(1 << 28, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.numel() * 4 / (measure(lambda: b.copy_(a), 10)["ms"] * 1e-3)


def num_pairs(scene: dict, size) -> float:
    """(pixel, splat) pairs with alpha above 1/255, from the areas of the visible ellipses.

    Pixels that stop early see fewer, so this is an upper bound on the arithmetic needed.
    """
    from pose_rasterizer.reference import project

    mean, cov, z = project(
        scene["means"], scene["quats"], scene["scales"], scene["viewmat"], scene["intrinsics"], size
    )
    inside = (z > 0.01) & (mean > 0).all(1) & (mean[:, 0] < size[1]) & (mean[:, 1] < size[0])
    extent = 2 * torch.log(255 * scene["opacities"])
    return float((math.pi * extent * torch.linalg.det(cov).sqrt())[inside].sum())


def floor_ms(mode: str, count: int, size, pairs: float, bandwidth: float) -> dict:
    """The least time, by bytes and by operations."""
    pixels = size[0] * size[1]
    model = 4 * count * (3 + 4 + 3 + 1 + SH_COEFFS * CHANNELS)
    images = 4 * pixels * (CHANNELS + 2)
    moved = model + images
    if mode != "forward":
        moved += model + images + 4 * pixels * CHANNELS  # read again, and the image's gradient
    if mode == "gaussians":
        moved += model
    device = torch.cuda.get_device_properties(0)
    clock = getattr(device, "clock_rate", 1_755_000) * 1e3
    rate = device.multi_processor_count * 128 * clock
    return {
        "bytes_ms": 1e3 * moved / bandwidth,
        "operations_ms": 1e3 * pairs * PAIR_OPS[mode] / rate,
    }


def compare(size_name: str, repeats: int, bandwidth: float, with_gsplat: bool) -> list[dict]:
    count, height, width = map(int, size_name.split("x"))
    scene, size = make_scene(count, height, width), (height, width)
    pairs = num_pairs(scene, size)
    rows = []
    for mode in WANTED:
        row = {"size": size_name, "mode": mode, "pairs": pairs}
        step = make_step(render_ours, scene, size, mode)
        if with_gsplat:
            other = make_step(render_gsplat, scene, size, mode)
            row["ours"], row["gsplat"], row["ratios"] = measure_in_turns(step, other, repeats)
            row["ratio"] = statistics.median(row["ratios"])
        else:
            row["ours"] = measure(step, repeats)
        row["graph_ms"] = measure_graph(step, repeats)
        row["host_ms"] = host_time(step, repeats)
        if mode == "pose":
            empty = empty_step(scene, size)
            row["empty_ms"] = measure(empty, repeats)["ms"]
            row["empty_host_ms"] = host_time(empty, repeats)
        row["kernels_us"] = kernel_times(step)
        row |= floor_ms(mode, count, size, pairs, bandwidth)
        if with_gsplat:
            row["bar"] = BARS.get(size_name, {}).get(mode)
            row["image_difference"] = float((step()[0] - other()[0]).detach().abs().mean())
            pairs_of = zip(step()[1], other()[1], strict=True)
            row["gradient_difference"] = [float((a - b).norm() / b.norm()) for a, b in pairs_of]
        rows.append(row)
    return rows


def batch_of_poses(count: int, size, batch: int, repeats: int, bandwidth: float) -> dict:
    """Forward and pose gradient of `batch` cameras in one call; per pose."""
    scene = make_scene(count, *size)
    angles = torch.linspace(-0.3, 0.3, batch, device="cuda")
    turn = torch.eye(4, device="cuda").repeat(batch, 1, 1)
    turn[:, 0, 0] = turn[:, 2, 2] = angles.cos()
    turn[:, 0, 2], turn[:, 2, 0] = angles.sin(), -angles.sin()
    scene["viewmat"] = scene["viewmat"] @ turn
    scene["weight"] = scene["weight"].expand(batch, -1, -1, -1).contiguous()
    step = make_step(render_ours, scene, size, "pose")
    result = measure(step, repeats)
    first = scene | {"viewmat": scene["viewmat"][0]}
    return {
        "size": f"{count}x{size[0]}x{size[1]}",
        "mode": f"pose, batch of {batch}",
        "ours": result,
        "ms_per_pose": result["ms"] / batch,
        "bar_ms_per_pose": 0.15,
        "kernels_us": {k: v / batch for k, v in kernel_times(step).items()},
        **floor_ms("pose", count, size, num_pairs(first, size), bandwidth),
    }


def show(rows: list[dict], batches: list[dict]) -> None:
    print("size mode ours_ms graph_ms gsplat_ms ratio bar floor_bytes floor_ops MiB ours/gsplat")
    for r in rows:
        other = r.get("gsplat", {"ms": math.nan, "peak_mib": math.nan})
        differences = [f"{d:.1e}" for d in r.get("gradient_difference", [])]
        print(
            f"{r['size']} {r['mode']} {r['ours']['ms']:.3f} {r['graph_ms']:.3f} {other['ms']:.3f}"
            f" {r.get('ratio', math.nan):.3f} {r.get('bar')} {r['bytes_ms']:.3f}"
            f" {r['operations_ms']:.3f} {r['ours']['peak_mib']:.1f}/{other['peak_mib']:.1f}"
            f" rounds {[round(x, 3) for x in r.get('ratios', [])]}"
            f" differences {r.get('image_difference')} {differences}"
        )
        print("   ", {k: round(v, 1) for k, v in list(r["kernels_us"].items())[:9]})
        host = {k: round(r[k], 3) for k in ("host_ms", "empty_ms", "empty_host_ms") if k in r}
        print("    host until return, and torch alone:", host)
    for b in batches:
        print(
            b["size"], b["mode"], f"{b['ms_per_pose']:.4f} ms per pose, bar {b['bar_ms_per_pose']}"
        )
        print("   ", {k: round(v, 2) for k, v in list(b["kernels_us"].items())[:9]})


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="NxHxW")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-gsplat", action="store_true")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        raise SystemExit("error: this benchmark needs a CUDA device")
    with_gsplat = not args.no_gsplat
    if with_gsplat:
        try:
            import gsplat  # noqa: F401
        except ImportError:
            print("gsplat isn't installed: measuring ours alone")
            with_gsplat = False
    bandwidth = copy_bandwidth()
    rows = [r for s in args.sizes for r in compare(s, args.repeats, bandwidth, with_gsplat)]
    batches = [batch_of_poses(100_000, (400, 400), 32, args.repeats, bandwidth)]
    show(rows, batches)
    if args.json:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
        facts = {
            "device": torch.cuda.get_device_name(), "torch": torch.__version__, "commit": commit,
            "repeats": args.repeats, "copy_bandwidth": bandwidth, "rows": rows, "batches": batches,
        }  # fmt: skip
        args.json.write_text(json.dumps(facts, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
