"""How the watch looks: metal, lacquer, leather, prints, and the colours of its defects."""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import face_axes, picked, scratched
from .mesh import unit
from .noise import fractal_noise_3d
from .watch_parts import (
    AN_INDEX,
    APPLIED,
    BACK,
    BEZEL,
    BUCKLE,
    CASE,
    DATE,
    DIAL,
    HANDS,
    HOLE,
    HOLES,
    INDICES,
    KEEPING,
    LID,
    LONG,
    MIDDLE,
    PIECES,
    PLATE,
    POINTERS,
    REHAUT,
    RING,
    SECOND,
    SHORT,
    SMALL,
    SUB,
    THICK,
    along_strap,
    cut_distance,
    on_hand,
    on_index,
    on_piece,
    opened,
    piece_outline,
    stitches,
)

TIDE, INK, GLUE, BLOOM = range(4)  # stains: dried water, ink, glue, moisture under the lacquer
PX = 500  # pixels of the prints per world unit
HALF_FACE, HALF_LINING = (0.40, 0.40), (0.30, 0.20)
LINING = 0.62  # s of the stamp inside the short piece
BELTS = {RING: 0.445, LID: 0.335}  # rings of print about the middle: radius
BELT_HALF = 0.05
TRIANGLE = ((-0.034, -0.030), (0.034, -0.030), (0, 0.032))  # at twelve: right and down
PETROL, DEEP, STEEL = (0.010, 0.060, 0.085), (0.006, 0.022, 0.030), (0.58, 0.575, 0.56)
LEATHER, SUEDED, DYED = (0.205, 0.082, 0.030), (0.37, 0.27, 0.17), (0.050, 0.022, 0.012)
LUMINOUS, ORANGE, WHITE = (0.70, 0.74, 0.62), (0.66, 0.15, 0.015), (0.76, 0.76, 0.73)
SOOT, CREAM, RAW = (0.02, 0.02, 0.02), (0.66, 0.58, 0.42), (0.46, 0.32, 0.19)
SCORED, BARE, SCUFFED = (0.10, 0.10, 0.10), (0.62, 0.46, 0.24), (0.42, 0.27, 0.15)
SALT = (0.50, 0.44, 0.36)
PINHOLE, PINHOLES = 0.010, 0.024  # of a lost index's feet: radius, along it
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*STEEL, 1, 0.30), (*STEEL, 1, 0.13), (*PETROL, 0, 0.09), (*STEEL, 1, 0.12)]
    + [(*STEEL, 1, 0.14), (*ORANGE, 0, 0.3), (*STEEL, 1, 0.17), (*STEEL, 1, 0.24)]
    + [(*LEATHER, 0, 0.50), (*LEATHER, 0, 0.50), (*LEATHER, 0, 0.48), (*STEEL, 1, 0.15)]
)
INKS = np.array([WHITE, (0.03, 0.03, 0.03), ORANGE])
# base colour, roughness of the stains
SPILT = ((0.045, 0.020, 0.012, 0.6), (0.015, 0.025, 0.15, 0.6), (0.60, 0.55, 0.42, 0.25))
SPILT += ((0.34, 0.38, 0.36, 0.45),)
# right, down, height in px, ink, text on the dial
TEXTS = ((0, -0.178, 40, 1, "NORDAL"), (0, -0.118, 20, 1, "AUTOMATIC"))
TEXTS += ((-0.165, 0.055, 19, 1, "10 ATM"), (DATE[0], 0, 36, 2, "17"))


def head_look(solid, points, part, defect) -> np.ndarray:
    """Colour, metallic, roughness of the head, [N, 5]; brushes the normals of its metal."""
    x, z, out = points[:, 0], points[:, 2], -points[:, 1]
    look, reach, turn = LOOKS[part], np.hypot(x, z), np.arctan2(x, z)
    brushed = part == CASE
    grain = fractal_noise_3d(points[brushed] * [9, 60, 60], 1.0, 4, 2)
    solid.normals[brushed] += 0.05 * grain[:, None] * [0, 1, 1]
    look[brushed, 4] += 0.03 * grain
    rays = np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)
    for where, depth in ((part == PLATE, 0.03), (part == LID, 0.05)):
        sweep = fractal_noise_3d(rays[where], 26, 5, 3) * smoothstep(reach[where] / 0.06)
        tangent = np.stack([np.cos(turn), 0 * turn, -np.sin(turn)], 1)[where]
        solid.normals[where] += depth * sweep[:, None] * tangent
        look[where, :3] *= (1 + 0.12 * sweep * (part[where] == PLATE))[:, None]
    sub = (part == PLATE) & (np.hypot(x, z - SUB[0]) < SUB[1])
    ridges = np.cos(2 * np.pi * np.hypot(x, z - SUB[0]) / 0.014)
    look[sub, :3] = np.array(DEEP) * (1 + 0.25 * ridges[sub, None])
    look[(part == CASE) & (out > MIDDLE[2] - 0.02) & (reach < 0.5), :3] = SOOT
    look[(part == RING) & (reach < REHAUT[0] + 0.012) & (out < BEZEL[2] - 0.012)] = (*DEEP, 0, 0.2)
    for number in range(len(INDICES)):
        along, across = on_index(x, z, number, defect)
        top = (part == APPLIED) & (out > DIAL[2] + 0.012)
        stripe = (np.abs(across) < 0.010) & (np.abs(along) < INDICES[number][2] - 0.006)
        look[top & stripe] = (*LUMINOUS, 0, 0.5)
    for hand in range(SECOND):
        _, length, _, wide, _, top = HANDS[hand]
        along, across, level = on_hand(x, z, out, hand, defect)
        stripe = (np.abs(across) < 0.36 * wide) & (np.abs(along - 0.52 * length) < 0.24 * length)
        filled = (part == POINTERS) & stripe & (np.abs(level - top) < 0.004)
        look[filled] = (*LUMINOUS, 0, 0.5)
    ink = _head_ink(x, z, out, part)
    look[ink > 0] = np.hstack([INKS[ink[ink > 0] - 1], [[0, 0.25]] * np.count_nonzero(ink)])
    look[(ink > 0) & (part == PLATE), 4] = 0.12
    return look


def _head_ink(x, z, out, part) -> np.ndarray:
    """Ink at places of the head: 0 or 1 + index in INKS, [N]."""
    ink, reach = np.zeros(len(x), int), np.hypot(x, z)
    face = (part == PLATE) & (out > DIAL[2] - 0.012)
    places = np.stack([x, -z], 1)[face]
    ink[face] = picked(_face_image(), *((places + HALF_FACE) * PX).T)
    ahead = {RING: out > BEZEL[2] - 0.045, LID: out < BACK[1] + 0.006}
    for belt, radius in BELTS.items():
        where = (part == belt) & ahead[belt] & (np.abs(reach - radius) < BELT_HALF)
        turn = np.arctan2(-x if belt == LID else x, z)[where] % (2 * np.pi)
        row = (radius + BELT_HALF - reach[where]) * PX
        ink[where] = picked(_belt_image(belt), turn * radius * PX, row)
    return ink


def strap_look(solid, points, which, defect) -> np.ndarray:
    """Colour, metallic, roughness of the strap, [N, 5]; grains the normals of its leather."""
    x, (s, n) = points[:, 0], along_strap(points[:, 1], points[:, 2])
    look, leather = LOOKS[which + PIECES[0]], which < BUCKLE - PIECES[0]
    mottle, pores = fractal_noise_3d(points, 4, 2, 4), fractal_noise_3d(points, 40, 3, 3)
    look[leather, :3] *= (1 + 0.14 * mottle + 0.10 * pores)[leather, None]
    look[leather, 4] += (0.05 * pores)[leather]
    rough = np.stack([fractal_noise_3d(points, 38, seed, 2) for seed in (4, 5, 6)], 1)
    solid.normals[leather] += 0.10 * rough[leather]
    for piece in (SHORT, LONG):
        own = which == piece
        along, level = on_piece(piece, s, n)
        outline = piece_outline(piece, x, along)
        gap = opened(piece, x, along, outline, defect)
        under = own & (level < -0.4 * THICK)
        look[under] = (*SUEDED, 0, 0.9)
        look[under, :3] *= (1 + 0.06 * mottle + 0.05 * pores)[under, None]
        edge = own & (outline > -0.010) & (np.abs(level) < 0.8 * THICK)
        look[edge, :3] = DYED
        inside = own & (gap > 0.008) & (outline < -0.008) & (level > 0) & (level < gap + 0.006)
        look[inside] = (*RAW, 0, 0.95)
        sewn = own & stitches(piece, x, along, outline, defect) & (level > gap + 0.5 * THICK)
        look[sewn] = (*CREAM, 0, 0.8)
        bare = own & (np.abs(cut_distance(piece, x, along, level, defect)) < 0.005)
        look[bare] = (*RAW, 0, 0.95)
    for hole in HOLES:
        rim = (which == LONG) & (np.hypot(s - hole, x) < HOLE + 0.010)
        look[rim, :3] *= 0.35
    lining = (which == SHORT) & (n < -0.6 * THICK)
    at = np.stack([s - LINING, -x], 1)[lining] + HALF_LINING
    stamped = np.flatnonzero(lining)[picked(_lining_image(), *(at * PX).T) > 0]
    look[stamped, :3] = DYED
    return look


def spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, leather = defect["kind"], np.isin(part, (*PIECES, KEEPING))
    if kind in ("missing", "skewed") and defect["what"] == AN_INDEX:
        along, across = on_index(points[:, 0], points[:, 2], int(defect["part"]), None)
        feet = np.hypot(np.abs(along) - PINHOLES, across) < PINHOLE
        look[feet & (part == PLATE)] = (*SOOT, 0, 0.8)
    if kind == "scratch":
        scored, pale = scratched(points, defect, reach=0.03), look[:, 0] > 0.7 * SCUFFED[0]
        scored &= ~np.isin(part, (POINTERS, SMALL))  # they stand above the dial
        look[scored] = (*SCORED, 0.3, 0.6)
        look[scored & (part == PLATE)] = (*BARE, 0.7, 0.4)
        look[scored & leather] = (*SCUFFED, 0, 0.9)
        look[scored & leather & pale] = (*DYED, 0, 0.9)
    if kind == "stain":
        of, away = int(defect["of"]), points - np.array(defect["centre"])
        normal = unit(np.array(defect["normal"]))
        along, across, deep = (away @ v for v in (*face_axes(normal, defect["angle"]), normal))
        near = np.hypot(along / 1.25, across / 0.8) / defect["radius"]
        near = near + 0.16 * fractal_noise_3d(points, 9, defect["seed"], 4)
        cover = smoothstep((1 - near) / (0.3 if of == BLOOM else 0.12))
        spilt = np.tile([*SPILT[of][:3], 0, SPILT[of][3]], (len(points), 1))
        if of == TIDE:  # salt is left at its rim
            rim = smoothstep((near - 0.62) / 0.2)[:, None]
            spilt[:, :3] += rim * (np.array(SALT) - spilt[:, :3])
        if of == BLOOM:
            cover *= part == PLATE
            cover *= smoothstep(0.75 + 0.6 * fractal_noise_3d(points, 30, defect["seed"] + 1, 3))
        cover = (defect["cover"] * cover * (np.abs(deep) < 0.05))[:, None]
        look += cover * (spilt - look)


@cache
def _face_image() -> np.ndarray:
    """What is printed on the dial, [rows, columns]."""
    canvas = Canvas(HALF_FACE, PX)
    right, wide, tall, _ = DATE
    canvas.rectangle(right - wide, -tall, right + wide, tall, 1)
    for text in TEXTS:
        canvas.write(*text)
    for tick in range(60):
        turn, start = tick * np.pi / 30, 0.366 if tick % 5 else 0.358
        ends = [(r * np.sin(turn), -r * np.cos(turn)) for r in (start, 0.383)]
        canvas.draw.line([tuple(canvas.px(*end)) for end in ends], 1, 2 if tick % 5 else 5)
    for tick in range(12):  # of the small seconds
        turn = tick * np.pi / 6
        start = 0.088 if tick % 3 else 0.070
        ends = [(r * np.sin(turn), -SUB[0] - r * np.cos(turn)) for r in (start, 0.110)]
        canvas.draw.line([tuple(canvas.px(*end)) for end in ends], 1 if tick % 3 else 3, 4)
    return canvas.inks()


@cache
def _belt_image(belt: int) -> np.ndarray:
    """What is printed about the middle of bezel or case back, unrolled from twelve clockwise."""
    half = np.pi * BELTS[belt]
    canvas = Canvas((half, BELT_HALF), PX)
    if belt == LID:
        for share, text in ((0.18, "STAINLESS STEEL"), (0.5, "10 ATM"), (0.82, "NORDAL 40718")):
            canvas.write((2 * share - 1) * half, 0, 40, 2, text)
        return canvas.inks()
    for five in range(12):
        right = (five / 6 - 1) * half
        if five % 2:
            canvas.rectangle(right - 0.008, -0.026, right + 0.008, 0.026, 2)
        elif five:
            canvas.write(right, 0, 42, 2, str(5 * five))
    canvas.draw.polygon([tuple(canvas.px(r - half, d)) for r, d in TRIANGLE], 3)
    canvas.draw.polygon([tuple(canvas.px(r + half, d)) for r, d in TRIANGLE], 3)
    return canvas.inks()


@cache
def _lining_image() -> np.ndarray:
    """What is stamped inside the short piece, [rows, columns]."""
    canvas = Canvas(HALF_LINING, PX)
    canvas.write(0, -0.055, 38, 1, "NORDAL")
    canvas.write(0, 0.0, 26, 1, "GENUINE LEATHER")
    canvas.write(0, 0.05, 26, 1, "20 - 16 mm")
    return np.pad(canvas.inks(), 2)
