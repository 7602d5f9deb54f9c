"""A populated circuit board: chips with legs, cans, screw terminals, a heat sink; its defects.

Flat, and full of small parts of unlike surfaces (lacquer, mould compound, tin, gold, sleeves), with
solder joints and tracks beneath.
"""

from dataclasses import replace
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .board_parts import (
    BOTTOM,
    CANS,
    JOINTS,
    LOOSE,
    PARTS,
    PINS,
    PITCH,
    TIN,
    TOP,
    WHITE,
    Part,
    painted,
    part_distance,
)
from .lights import smoothstep
from .mesh import Mesh, box, cylinder, mesh_from_distance
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.002, "skewed": 0.002, "bent": 0.0015}
LOW, HIGH, STEP = np.array([-1.02, -0.72, -0.26]), np.array([1.02, 0.72, 0.36]), 0.0085
HALF = 0.98, 0.68
HOLES = ((-0.87, 0.57), (-0.87, -0.57), (0.87, -0.57))
PX = 400  # of the print, per world unit
LACQUER, TRACK, EDGE = (0.010, 0.085, 0.035), (0.022, 0.16, 0.062), (0.10, 0.10, 0.045)
SOOT = 0.016, 0.011, 0.008
PALETTE = np.array([LACQUER, TRACK, WHITE, TIN])


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, skewed, bent, scorch)."""
    part, sizes, side = None, {}, 1.0
    if kind == "missing":
        part = int(rng.integers(len(LOOSE + CANS)))
    elif kind == "skewed":
        part = int(rng.integers(len(LOOSE)))
        sizes = {"turn": rng.uniform(0.2, 0.5) * rng.choice([-1, 1])}
        sizes["slip"] = rng.uniform(0.02, 0.05) * rng.choice([-1, 1])
    elif kind == "bent":  # one to three neighbouring pins of the header
        sizes = {"count": rng.integers(1, 4), "slope": rng.uniform(0.45, 0.9)}
        sizes["towards"] = rng.uniform(-np.pi, np.pi)
        part = PARTS.index(PINS[0]) + int(rng.integers(len(PINS) + 1 - sizes["count"]))
    elif kind == "scorch":  # above or beneath
        side, sizes = rng.choice([1, 1, -1]), {"radius": rng.uniform(0.16, 0.26)}
    else:
        raise ValueError(f"the board has no defect {kind!r}")
    x, y = rng.uniform(-0.5, 0.6), rng.uniform(-0.45, 0.45)
    if part is not None:
        x, y = PARTS[part].x, PARTS[part].y
    return {
        "kind": kind,
        "centre": [float(x), float(y), TOP if side > 0 else BOTTOM],
        "normal": [0.3 * float(x), 0.3 * float(y), float(side)],
        "part": part,
        "seed": int(rng.integers(1 << 30)),
        **{name: float(value) for name, value in sizes.items()},
    }


def parts(defect: dict | None) -> list[Part]:
    """Parts of the flawless or the defective board."""
    made, kind = list(PARTS), defect["kind"] if defect else None
    if kind == "missing":
        del made[defect["part"]]
    elif kind == "skewed":
        old = made[defect["part"]]
        slip = defect["slip"] * np.array([np.cos(old.turn + 1), np.sin(old.turn + 1)])
        turned = replace(old, x=old.x + slip[0], y=old.y + slip[1], turn=old.turn + defect["turn"])
        made[defect["part"]] = turned
    elif kind == "bent":
        towards = np.array([np.cos(defect["towards"]), np.sin(defect["towards"])])
        for k in range(int(defect["count"])):
            lean = tuple(float(c) for c in (1 - 0.15 * k) * defect["slope"] * towards)
            made[defect["part"] + k] = replace(made[defect["part"] + k], lean=lean)
    return made


def distance(x, y, z, defect: dict | None = None):
    """Distance-like value near the solid's surface, negative inside; x, y, z of a grid."""
    solid = _bare_board(x, y, z)
    axes = x[:, 0, 0], y[0, :, 0]
    for part in parts(defect):
        window = tuple(
            slice(*np.searchsorted(axis, (at - part.reach, at + part.reach)))
            for axis, at in zip(axes, (part.x, part.y), strict=True)
        )
        near = part_distance(part, x[window], y[window], z[window])
        solid[window] = np.minimum(solid[window], near)
    return solid


def _bare_board(x, y, z):
    middle, thickness = (TOP + BOTTOM) / 2, (TOP - BOTTOM) / 2
    solid = box(x, y, z - middle, (*HALF, thickness), rounding=0.01)
    for hx, hy in HOLES:
        solid = np.maximum(solid, -cylinder(x - hx, y - hy, 0.06))
    return solid


def mesh(defect: dict | None = None) -> Mesh:
    """The board's surface with colour, metallic and roughness per vertex."""
    solid = mesh_from_distance(lambda x, y, z: distance(x, y, z, defect), LOW, HIGH, STEP)
    points = solid.vertices
    x, y, z = points.T
    nearest = np.abs(_bare_board(x, y, z))
    look = _lacquered(x, y, z)  # colour and metallic and roughness, [N, 5]
    for part in parts(defect):
        near = np.abs(np.stack([x - part.x, y - part.y])).max(0) < part.reach
        off = np.abs(part_distance(part, *points[near].T))
        own = np.flatnonzero(near)[off < nearest[near]]
        nearest[near] = np.minimum(off, nearest[near])
        look[own] = painted(part, *part.local(*points[own].T))
    look[:, :3] *= (1 + 0.05 * fractal_noise_3d(points, 6, 2, 4))[:, None]
    if defect and defect["kind"] == "scorch":
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        edge = fractal_noise_3d(points, 9, defect["seed"], 4)
        cover = 0.92 * smoothstep((1 - away - 0.2 * edge) / 0.45)[:, None]
        look = look * (1 - cover) + np.array([*SOOT, 0, 0.85]) * cover
    return solid.painted(look)


def _lacquered(x, y, z):
    """Look of the bare board: lacquer over tracks, pads and white print; [N, 5]."""
    above = z > (TOP + BOTTOM) / 2
    row = ((HALF[1] - y) * PX).astype(int).clip(0, int(2 * HALF[1] * PX) - 1)
    column = ((x + HALF[0]) * PX).astype(int).clip(0, int(2 * HALF[0] * PX) - 1)
    ink = np.where(above, _print_image(True)[row, column], _print_image(False)[row, column])
    tin = (ink == 3)[:, None]
    look = np.hstack([PALETTE[ink], np.where(tin, [0.7, 0.35], [0.0, 0.35])])
    cut = (z < TOP - 0.012) & (z > BOTTOM + 0.012)
    look[cut] = (*EDGE, 0, 0.7)
    return look


@cache
def _print_image(above: bool) -> np.ndarray:
    """What lies on one side, as seen from above: indices into PALETTE, [rows, columns]."""
    size = int(2 * HALF[0] * PX), int(2 * HALF[1] * PX)
    image = Image.new("L", size, 0)
    draw = ImageDraw.Draw(image)

    def px(x, y):
        return (x + HALF[0]) * PX, (HALF[1] - y) * PX

    def ring(x, y, radius, ink):
        (c, r), k = px(x, y), radius * PX
        draw.ellipse((c - k, r - k, c + k, r + k), fill=ink)

    rng = np.random.default_rng(4 + above)
    ends = [(p.x, p.y) for p in PARTS]
    for _ in range(34):  # tracks: straight, then aslant
        (x, y), (x1, y1) = (ends[k] for k in rng.integers(len(ends), size=2))
        slant = min(abs(x1 - x), abs(y1 - y))
        knee = x1 - slant * np.sign(x1 - x), y1 - slant * np.sign(y1 - y)
        draw.line([px(x, y), px(*knee), px(x1, y1)], 1, int(rng.integers(5, 12)))
    for x, y in HOLES:
        ring(x, y, 0.095, 3)
    for joint in JOINTS:
        ring(joint.x, joint.y, 0.06, 3)
    if not above:
        words = Image.new("L", (500, 80), 0)
        font = ImageFont.load_default(size=64)
        ImageDraw.Draw(words).text((0, 0), "LOT 0731", 255, font)
        image.paste(2, (240, 215), words.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        return np.asarray(image)
    for part in LOOSE + CANS:
        _draw_place(draw, part, px)
    for text, x, y, height in (
        ("RELAY-4", -0.60, 0.672, 34), ("U1", -0.32, 0.14, 36), ("U2", -0.55, 0.44, 36),
        ("Q3", 0.42, 0.05, 36), ("R7", 0.12, 0.25, 30), ("X1", -0.12, -0.50, 36),
    ):  # fmt: skip
        draw.text(px(x, y), text, 2, ImageFont.load_default(size=height))
    return np.asarray(image)


def _draw_place(draw, part: Part, px) -> None:
    """Pads and white outline of a part."""
    a, b, _ = part.half
    if part.form == "can":
        (c, r), k = px(part.x, part.y), (a + 0.02) * PX
        draw.ellipse((c - k, r - k, c + k, r + k), outline=2, width=5)
        return
    cos, sin = np.cos(part.turn), np.sin(part.turn)

    def rectangle(u, v, half_u, half_v, **style):
        corners = [
            (u + i * half_u, v + j * half_v) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
        turned = [px(part.x + cos * p - sin * q, part.y + sin * p + cos * q) for p, q in corners]
        draw.polygon(turned, **style)

    if part.form in ("chip", "dual"):
        pitch = PITCH[part.form]
        for along in np.arange(-10, 11) * pitch:
            for sign in (-1, 1):
                if abs(along) < a - 0.02:
                    rectangle(along, sign * (b + 0.05), 0.02, 0.05, fill=3)
                if abs(along) < b - 0.02 and part.form == "chip":
                    rectangle(sign * (a + 0.05), along, 0.05, 0.02, fill=3)
        rectangle(0, 0, a - 0.02, b - 0.02, outline=2, width=4)
        return
    rectangle(0, 0, a + 0.04, b + 0.03, outline=2, width=5)
    if part.form == "end":
        for sign in (-1, 1):
            rectangle(sign * 0.8 * a, 0, 0.3 * a, b, fill=3)
