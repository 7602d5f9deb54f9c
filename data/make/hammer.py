"""A claw hammer: a forged head, painted but for face and claw, an ash handle, a label; its defects.

The handle stands along z, the face looks along x. The brand is stamped into the front cheek (-y),
the weight into the back one; label and print are on the front of the handle only.
"""

from functools import cache

import numpy as np

from .hammer_head import AXIS, CHEEK, CLAW, FACE, head_distance
from .hammer_label import (
    ASKEW,
    INKS,
    LABEL,
    RIPPED,
    SMEARED,
    inked,
    label_distance,
    label_outline,
    on_label,
    ripped,
)
from .knight import grain
from .lights import smoothstep
from .marks import described, first_met, scratched, solid_with_parts, union
from .mesh import Mesh, both, box, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"crack": 0.0007, "missing": 0.0006, "corrosion": 0.0012, "scratch": 0.0006}
SMALLEST_MASK |= {"label": 0.0012}
LOW, HIGH, STEP = np.array([-0.64, -0.17, -0.95]), np.array([0.53, 0.17, 0.86]), 0.0062
OUTLINE = [  # z, half width (along x) and half thickness of the handle
    *((-0.95, 0.098, 0.072), (-0.88, 0.116, 0.084), (-0.78, 0.112, 0.080), (-0.62, 0.088, 0.064)),
    *((-0.42, 0.094, 0.072), (-0.20, 0.102, 0.078), (0.10, 0.086, 0.068), (0.35, 0.066, 0.056)),
    *((0.50, 0.082, 0.064), (0.56, 0.086, 0.066), (0.90, 0.088, 0.066)),
]
ENDS, SWAY = (-0.925, 0.818), 0.022  # z of the handle; how far its grip swings back
HANG = (-0.83, 0.026)  # z and radius of the hole
DIPPED = -0.70  # z up to which the grip's end is painted
BARE = (-0.33, 0.335)  # x beyond which the head is ground
WEDGE = (0.062, 0.013, 0.75, 0.830, 0.35)  # half sizes, from and to z, turned by
PAINT, STEEL, BRIGHT = (0.30, 0.020, 0.014), (0.54, 0.535, 0.525), (0.64, 0.635, 0.625)
ASH, LATE, PAPER = (0.62, 0.45, 0.26), (0.33, 0.18, 0.075), (0.77, 0.75, 0.68)
SOOT, SPLIT, GLUE = (0.03, 0.022, 0.016), (0.045, 0.028, 0.015), (0.50, 0.40, 0.27)
RUST, DARK_RUST, TORN = (0.29, 0.095, 0.025), (0.10, 0.038, 0.018), (0.30, 0.295, 0.29)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array([(*PAINT, 0, 0.22), (*ASH, 0, 0.38), (*STEEL, 1, 0.42), (*PAPER, 0, 0.55)])
HEAD, WOOD, IRON, STICKER = range(4)
LOST_WEDGE, FACE_FLAKE, CLAW_TIP, CHEEK_FLAKE = range(4)  # what may be missing


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (crack, missing, corrosion, scratch, label)."""
    if kind == "crack":  # along the fibres of the handle
        centre, normal = _place(rng, (WOOD,), (-0.70, 0.40))
        sizes = {"length": rng.uniform(0.12, 0.30), "width": rng.uniform(0.007, 0.012)}
        sizes["lean"] = rng.uniform(-0.10, 0.10)
    elif kind == "missing":
        centre, normal, sizes = _random_loss(rng)
    elif kind == "corrosion":
        centre, normal = _place(rng, (HEAD,), (0.30, 0.80))
        sizes = {"radius": rng.uniform(0.06, 0.13), "cover": rng.uniform(0.65, 0.95)}
    elif kind == "scratch":
        steel = rng.random() < 0.5
        centre, normal = _place(rng, (HEAD,) if steel else (WOOD,), (-0.90, 0.80))
        sizes = {"length": rng.uniform(0.11, 0.25), "width": rng.uniform(0.010, 0.016)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "label":
        middle, high, wide, _ = LABEL
        form, corner = int(rng.choice(3, p=(0.4, 0.35, 0.25))), rng.choice([-1, 1], 2)
        sizes = {"form": form, "turn": rng.choice([-1, 1]) * rng.uniform(0.10, 0.32)}
        sizes |= {"up": rng.uniform(-0.05, 0.05), "radius": rng.uniform(0.09, 0.17)}
        sizes |= {"right": 0.8 * high * corner[0], "below": 0.8 * wide * corner[1]}
        sizes |= {"smeared": rng.random() < 0.5, "down": rng.uniform(-0.02, 0.02)}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.05)
        if form == SMEARED:
            sizes |= {"right": rng.uniform(-0.1, 0.1), "below": 0}
        centre = (0, -0.075, middle + sizes["right"] * (form != ASKEW))
        normal = (0.5 * (form == RIPPED) * corner[1], -1, 0.1)
    else:
        raise ValueError(f"the hammer has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _random_loss(rng):
    """Place, normal and sizes of what is missing: the wedge, a flake of face or cheek, a tip."""
    form, turn = int(rng.choice(4, p=(0.25, 0.3, 0.25, 0.2))), rng.uniform(-np.pi, np.pi)
    side, sizes = rng.choice([-1, 1]), {"form": form, "radius": rng.uniform(0.05, 0.085)}
    if form == LOST_WEDGE:
        return (0, 0, WEDGE[3]), (0.5 * np.cos(turn), 0.5 * np.sin(turn), 1), sizes
    if form == FACE_FLAKE:
        around = np.array([0, np.cos(turn), np.sin(turn)])
        centre = FACE[0] * around + [FACE[2] - 0.01, 0, AXIS]
        return centre, around + [1.0, 0, 0], sizes
    if form == CLAW_TIP:
        x, radius, end = CLAW
        at = end - rng.uniform(0, 0.06)
        out = np.array([-np.sin(at), 0, np.cos(at)])
        centre = radius * out + [x, side * rng.uniform(0.07, 0.11), AXIS - radius]
        return centre, out * rng.choice([-1, 1]) + [-0.5, 0.5 * side, 0], sizes
    centre = np.array([0, side * CHEEK[1], AXIS + CHEEK[2]])
    centre = centre + [rng.uniform(-0.11, 0.11), 0, 0]
    return centre, (0, side, rng.uniform(0.3, 1.2)), sizes


def _place(rng, of, heights):
    """A point of one of the parts `of` between two heights, and its normal, each [3]."""
    while True:
        axis = rng.choice([0, 1], p=(0.35, 0.65))
        way = np.tile(rng.uniform((-0.60, -0.14, heights[0]), (0.50, 0.14, heights[1])), (601, 1))
        way[:, axis] = np.linspace(0.65, -0.65, 601) * rng.choice([-1, 1])
        met = first_met(way, parts, distance)
        if met is not None and met[0] in of and abs(met[2][axis]) > 0.6:
            return met[1:]


@cache
def _outline():
    """z, half width and half thickness of the handle, smoothly interpolated, [3, K]."""
    from scipy.interpolate import PchipInterpolator

    heights, *halves = np.array(OUTLINE).T
    z = np.linspace(heights[0], heights[-1], 600)
    return np.stack([z, *(PchipInterpolator(heights, half)(z) for half in halves)])


def _from_axis(x, z):
    """x from the handle's swung axis."""
    return x - SWAY * np.cos(2.1 * (z - 0.1)) * smoothstep((0.5 - z) / 0.5)


def _smooth_handle(x, y, z):
    """Distance-like value of the endless handle."""
    heights, wide, thick = _outline()
    wide, thick = np.interp(z, heights, wide), np.interp(z, heights, thick)
    x, power = np.abs(_from_axis(x, z)) / wide, 2.4
    return ((x**power + (np.abs(y) / thick) ** power) ** (1 / power) - 1) * thick


def _cracked(x, y, z, defect):
    """Distance-like value of a crack's gap, along z and the defect's normal."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    out, phase = unit(np.array([*defect["normal"][:2]])), defect["seed"] % 7
    across = away[1] * out[0] - away[0] * out[1] + defect["lean"] * away[2]
    across = across + 0.006 * np.sin(19 * away[2] + phase) + 0.003 * np.sin(57 * away[2] - phase)
    deep = away[0] * out[0] + away[1] * out[1]
    share = (1 - (away[2] / defect["length"]) ** 2).clip(0)
    gap = np.abs(across) - defect["width"] * np.sqrt(share)
    return both(gap, np.abs(away[2]) - defect["length"], -0.07 - deep)


def _broken_off(x, y, z, defect):
    """Distance-like value of a rough lump that is missing."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    phase = defect["seed"] % 7
    rough = 0.006 * np.sin(67 * x + phase) * np.sin(71 * y - phase) + 0.004 * np.sin(93 * z + y)
    return np.sqrt(sum(v * v for v in away)) - defect["radius"] + rough


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of head, handle, wedge and label, each as x."""
    kind = defect["kind"] if defect else None
    smooth = _smooth_handle(x, y, z)
    wood = -smooth_min(-smooth, np.minimum(z - ENDS[0], ENDS[1] - z), 0.02)
    wood = -smooth_min(-wood, np.hypot(_from_axis(x, z), z - HANG[0]) - HANG[1], 0.012)
    if kind == "crack":
        wood = np.maximum(wood, -_cracked(x, y, z, defect))
    long, thick, low, top, turn = WEDGE
    cos, sin = np.cos(turn), np.sin(turn)
    along, aside = cos * x + sin * y, cos * y - sin * x
    wedge = box(along, aside, z - (low + top) / 2, (long, thick, (top - low) / 2), 0.004)
    wood = np.maximum(wood, -wedge)
    head = head_distance(x, y, z)
    if kind == "missing":
        if defect["form"] == LOST_WEDGE:
            wedge = np.full_like(x, 9)
        else:
            head = np.maximum(head, -_broken_off(x, y, z, defect))
    head = np.maximum(head, -smooth)
    label = label_distance(*on_label(_from_axis(x, z), y, z, defect), smooth, defect)
    return head, wood, wedge, label


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The hammer's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    mottle, fine = fractal_noise_3d(points, 5, 2, 4), fractal_noise_3d(points, 60, 3, 2)
    ground = fractal_noise_3d(points * (60, 12, 12), 1, 4, 2)
    look[:, :3] *= (1 + 0.025 * mottle)[:, None]
    look[:, 4] += 0.02 * mottle + 0.02 * fine
    wooden = part == WOOD
    look[wooden] = _wooden(points[wooden])
    dipped = wooden & (z < DIPPED + 0.008 * mottle)
    look[dipped] = (*PAINT, 0, 0.25)
    bare = (part == HEAD) & ((x < BARE[0] + 0.010 * mottle) | (x > BARE[1] + 0.004 * mottle))
    look[bare, :3] = np.array(STEEL) * (1 + 0.05 * ground[bare, None])
    look[bare, 3:] = np.stack([1 + 0 * ground, 0.27 + 0.03 * ground], 1)[bare]
    look[bare & (x > FACE[2] - 0.045)] = (*BRIGHT, 1, 0.15)
    solid.normals = unit(solid.normals)
    painted = (part == HEAD) & ~bare
    forged = np.stack([fractal_noise_3d(points, 18, seed, 2) for seed in (5, 6, 7)], 1)
    solid.normals[painted] += 0.05 * forged[painted]
    right, below = on_label(_from_axis(x, z), y, z, defect)
    inside = label_outline(right, below) < 0.002
    if defect and defect["kind"] == "label" and defect["form"] == RIPPED:
        inside &= ripped(right, below, defect) > 0
    smooth = _smooth_handle(x, y, z)
    labelled = inside & (part != HEAD) & (smooth > -0.003)
    look[labelled] = (*PAPER, 0, 0.55)
    ink = inked(np.stack([right, below], 1), defect) * labelled
    look[ink > 0, :3] = INKS[ink[ink > 0] - 1]
    if defect:
        _spoil(look, points, part, labelled, bare, defect)
    return solid.painted(look)


def _wooden(points):
    """Colour, metallic and roughness of varnished ash at points [N, 3], [N, 5]."""
    late, pores, slow = grain(points * (2.2, 2.2, 0.6))
    colour = np.array(ASH) + 0.9 * late[:, None] * (np.array(LATE) - ASH)
    colour = colour * (1 - 0.25 * pores + 0.06 * slow)[:, None]
    return np.column_stack([colour, 0 * late, 0.36 + 0.05 * pores])


def _spoil(look, points, part, labelled, bare, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `bare`: which points are ground steel."""
    kind, (x, y, z) = defect["kind"], points.T
    if kind == "crack":
        split = _cracked(x, y, z, defect) < 0.004
        look[split & (part != HEAD)] = (*SPLIT, 0, 0.85)
    if kind == "missing" and defect["form"] != LOST_WEDGE:
        torn = (part == HEAD) & (np.abs(_broken_off(x, y, z, defect)) < 0.005)
        look[torn] = (*TORN, 0.9, 0.55)
    if kind == "missing" and defect["form"] == LOST_WEDGE:
        look[(part == WOOD) & (z < ENDS[1] - 0.02) & (z > WEDGE[2] - 0.02)] = (*SOOT, 0, 0.9)
    if kind == "corrosion":
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        edge = away + 0.35 * fractal_noise_3d(points, 11, defect["seed"], 4)
        cover = defect["cover"] * smoothstep((1 - edge) / 0.25) * (part == HEAD)
        share = smoothstep(0.5 + 0.7 * fractal_noise_3d(points, 24, defect["seed"] + 1, 3))
        rot = np.outer(share, RUST) + np.outer(1 - share, DARK_RUST)
        rot = np.column_stack([rot, 0 * share, 0 * share + 0.9])
        look += cover[:, None] * (rot - look)
    if kind == "scratch":
        scored = scratched(points, defect, reach=0.05)
        look[scored & (part == WOOD)] = (0.78, 0.66, 0.47, 0, 0.75)
        look[scored & (part == HEAD)] = (*BRIGHT, 1, 0.3)
        look[scored & bare] = (0.22, 0.215, 0.21, 0.7, 0.5)
        look[scored & labelled] = (*GLUE, 0, 0.8)
    if kind == "label" and defect["form"] == RIPPED:
        right, below = on_label(_from_axis(x, z), y, z, defect)
        was = label_outline(right, below) < 0
        rest = smoothstep(0.4 + fractal_noise_3d(points, 22, defect["seed"], 3))[:, None]
        left = was & ~labelled & (part != HEAD)
        look[left] += (0.7 * rest * (np.array([*GLUE, 0, 0.8]) - look))[left]
