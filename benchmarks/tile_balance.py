"""What the order of tiles can gain on a GPU's multiprocessors: a model, no measurement.

    python -m benchmarks.tile_balance [--gaussians 100000 --size 400]

Counts for each warp (8x4 pixels) of the benchmark scene the splats that it looks at before its last
pixel stops, then deals blocks out as the device does: to the multiprocessors in turn while there is
room, then to whichever finishes a block. Active warps share a multiprocessor, none faster than a
lone warp; that speed is chosen such that today's order takes MEASURED times what a saturated device
would. Prints times in units of the saturated device's.
"""

import argparse
import heapq

import numpy as np
import torch
from pose_rasterizer.reference import project

from benchmarks.rasterizer import make_scene

ALPHA_MIN, ALPHA_MAX, TRANSMITTANCE_MIN = 1 / 255, 0.99, 1e-4
TILE_PX, WARPS = 16, 8
MULTIPROCESSORS, BLOCKS = 132, 4  # H100; resident blocks of 8 warps
MEASURED = 87 / 53  # backward_tiles alone and per pose of 32, docs/kernels.md
START = 8.0  # what a warp costs before its first splat, in splats


def visible(scene: dict, size: int) -> dict:
    """Splats front to back: centres [N, 2], conics [N, 3], opacities [N], half boxes [N, 2], px."""
    names = ("means", "quats", "scales", "viewmat", "intrinsics")
    mean, cov, z = (t.double().numpy() for t in project(*(scene[k] for k in names), (size, size)))
    opacity = scene["opacities"].double().numpy()
    det = cov[:, 0, 0] * cov[:, 1, 1] - cov[:, 0, 1] ** 2
    conic = np.stack([cov[:, 1, 1], -cov[:, 0, 1], cov[:, 0, 0]], 1) / det[:, None]
    half = np.sqrt(2 * np.log(255 * opacity)[:, None] * cov[:, [0, 1], [0, 1]])
    order = np.argsort(z)
    return {
        k: v[order]
        for k, v in {"mean": mean, "conic": conic, "opacity": opacity, "half": half}.items()
    }


def tile_work(splats: dict, x0: int, y0: int) -> tuple[int, np.ndarray]:
    """Length of the tile's list, and the splats that each of its warps looks at, [8]."""
    corner = np.array([x0, y0])
    reach = (splats["mean"] + splats["half"] > corner) & (
        splats["mean"] - splats["half"] < corner + TILE_PX
    )
    near = np.nonzero(reach.all(1))[0]
    row, column = np.divmod(np.arange(TILE_PX**2), TILE_PX)
    dx = column[None] + x0 + 0.5 - splats["mean"][near, :1]
    dy = row[None] + y0 + 0.5 - splats["mean"][near, 1:]
    a, b, c = splats["conic"][near].T[..., None]
    power = -0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy)
    alpha = np.minimum(ALPHA_MAX, splats["opacity"][near, None] * np.exp(power))
    alpha[alpha < ALPHA_MIN] = 0
    alpha = alpha[(alpha > 0).any(1)]
    if len(alpha) == 0:
        return 0, np.zeros(WARPS)
    dark = np.cumprod(1 - alpha, 0) < TRANSMITTANCE_MIN
    stop = np.where(dark.any(0), dark.argmax(0) + 1, len(alpha))
    warp = row // 4 * 2 + column // 8
    work = [(alpha[: stop[warp == w].max()][:, warp == w] > 0).any(1).sum() for w in range(WARPS)]
    return len(alpha), np.array(work, dtype=float)


def reversed_rounds(key: np.ndarray) -> np.ndarray:
    """Largest first, every other round of MULTIPROCESSORS backwards (`order_tiles`)."""
    order = np.argsort(-key, kind="stable")
    for first in range(MULTIPROCESSORS, len(order) - MULTIPROCESSORS + 1, 2 * MULTIPROCESSORS):
        order[first : first + MULTIPROCESSORS] = order[first : first + MULTIPROCESSORS][::-1]
    return order


def finish_a_block(active: list[list[float]], lone: float, full: float) -> tuple[float, int]:
    """Runs a multiprocessor until a block ends: (time, blocks ended)."""
    passed = 0.0
    while True:
        count = sum(map(len, active))
        least = min(min(block) for block in active)
        passed += least / min(lone, full / count)
        left = [[w - least for w in block if w - least > 1e-9] for block in active]
        ended = sum(not block for block in left)
        active[:] = [block for block in left if block]
        if ended:
            return passed, ended


def makespan(blocks: list, order, resident: int, lone: float, full: float) -> float:
    """Time until all blocks (lists of their warps' work) have run."""
    waiting = [[w + START for w in blocks[b]] for b in order][::-1]
    active = [[] for _ in range(MULTIPROCESSORS)]
    for _ in range(resident):
        for own in active:
            if waiting:
                own.append(waiting.pop())
    events, end = [], 0.0
    for k, own in enumerate(active):
        if own:
            heapq.heappush(events, (*finish_a_block(own, lone, full), k))
    while events:
        now, ended, k = heapq.heappop(events)
        end = max(end, now)
        for _ in range(min(ended, len(waiting))):
            active[k].append(waiting.pop())
        if active[k]:
            passed, ended = finish_a_block(active[k], lone, full)
            heapq.heappush(events, (now + passed, ended, k))
    return end


def compare(lengths: np.ndarray, work: np.ndarray) -> None:
    """Prints the model's time for several ways to deal out [tiles, 8] warps."""
    full = (work.sum() + START * work.size) / MULTIPROCESSORS
    tiles, today = list(work), reversed_rounds(lengths)
    low, high = full / 400, full
    for _ in range(25):
        lone = (low * high) ** 0.5
        slow = makespan(tiles, today, BLOCKS, lone, full) > MEASURED
        low, high = (lone, high) if slow else (low, lone)
    longest = (work.max() + START) / lone
    print(
        f"a multiprocessor is saturated by {full / lone:.1f} warps; the longest takes {longest:.2f}"
    )
    halves = [part for row in work for part in (row[:4], row[4:])]
    pairs = [row[2 * k : 2 * k + 2] for row in work for k in range(4)]
    total = {k: np.array([p.sum() for p in v]) for k, v in {"half": halves, "pair": pairs}.items()}
    ways = {
        "image order": (tiles, range(len(tiles)), BLOCKS),
        "longest lists first": (tiles, np.argsort(-lengths, kind="stable"), BLOCKS),
        "and every other round reversed (today)": (tiles, today, BLOCKS),
        "by true work": (tiles, reversed_rounds(work.sum(1)), BLOCKS),
        "by the longest warp": (tiles, reversed_rounds(work.max(1)), BLOCKS),
        "half tiles by list": (halves, reversed_rounds(np.repeat(lengths, 2)), 2 * BLOCKS),
        "half tiles by true work": (halves, reversed_rounds(total["half"]), 2 * BLOCKS),
        "pairs of warps by true work": (pairs, reversed_rounds(total["pair"]), 4 * BLOCKS),
        "by true work, one block more": (tiles, reversed_rounds(work.sum(1)), BLOCKS + 1),
    }
    for name, (blocks, order, resident) in ways.items():
        print(f"{name}: {makespan(blocks, order, resident, lone, full):.2f}")


def main() -> None:
    """Count, model, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gaussians", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=400)
    args = parser.parse_args()
    torch.set_num_threads(1)
    splats = visible(make_scene(args.gaussians, args.size, args.size, device="cpu"), args.size)
    places = range(0, args.size, TILE_PX)
    found = [tile_work(splats, x, y) for y in places for x in places]
    lengths, work = np.array([n for n, _ in found]), np.stack([w for _, w in found])
    print(f"{len(found)} tiles, lists of {lengths.mean():.0f} on average, {lengths.max()} at most")
    print(f"splats per warp: {work.mean():.0f} on average, {work.max():.0f} at most")
    compare(lengths, work)


if __name__ == "__main__":
    main()
