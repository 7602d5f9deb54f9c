"""A toy elephant built of plastic bricks with studs, a cloth on its back; its defects.

It looks along x. The cloth's two sides are printed differently, a yellow ring is about one leg
only, and what stands on the cloth stands off its middle.
"""

from functools import cache

import numpy as np

from .bricks import PITCH, PLATE, Brick, Model, pair
from .canvas import Canvas
from .marks import described, inked_face, picked

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"burr": 0.001, "missing": 0.0012, "stain": 0.002, "scratch": 0.0011}
SMALLEST_MASK |= {"misprint": 0.0012}
LOW, HIGH = np.array([-1.08, -0.87, -0.83]), np.array([1.08, 0.87, 0.83])
AIM = (-0.95, -0.70, -0.72), (0.95, 0.70, 0.72)
ORIGIN = 4.5, 0.0, 10.5  # studs, studs, plates
GREY, PINK, RED, YELLOW, WHITE = range(5)
COLOURS = (0.20, 0.24, 0.29), (0.80, 0.24, 0.38), (0.52, 0.012, 0.018), (0.88, 0.55, 0.015)
COLOURS += ((0.78, 0.77, 0.73),)
# which of the stains show on a colour
SHOWN = ((0, 1, 3), (0, 2, 3, 5), (0, 2, 3, 4), (0, 1, 2, 5), (0, 1, 2, 4))
INKS = np.array([(0.80, 0.79, 0.76), (0.014, 0.014, 0.016), (0.86, 0.50, 0.012)])
BLANK, BLACK, GOLD = 1, 2, 3  # inks, white the first
BRICKS = [
    *pair("brick", GREY, (0, 0.5, 0), (2, 2.5, 1)),  # feet, legs
    *pair("brick", GREY, (3, 0.5, 0), (5, 2.5, 1)),
    *pair("round", GREY, (0, 0.5, 1), (2, 2.5, 4)),
    *pair("round", GREY, (0, 0.5, 4), (2, 2.5, 7)),
    Brick("round", GREY, (3, 0.5, 1), (5, 2.5, 3)),
    Brick("round", YELLOW, (3, 0.5, 3), (5, 2.5, 4)),
    Brick("round", GREY, (3, -2.5, 1), (5, -0.5, 4)),
    *pair("round", GREY, (3, 0.5, 4), (5, 2.5, 7)),
    Brick("brick", GREY, (0, -2.5, 7), (3, 2.5, 8)),  # body
    Brick("brick", GREY, (3, -2.5, 7), (5, 2.5, 8)),
    Brick("brick", GREY, (0, 0.5, 8), (2, 2.5, 11)),
    Brick("brick", GREY, (2, 0.5, 8), (5, 2.5, 11)),
    Brick("brick", GREY, (0, -2.5, 8), (3, -0.5, 11)),
    Brick("brick", GREY, (3, -2.5, 8), (5, -0.5, 11)),
    Brick("brick", GREY, (0, -0.5, 8), (4, 0.5, 10)),
    Brick("brick", GREY, (-1, -0.5, 10), (3, 0.5, 11)),
    Brick("slope", GREY, (0, -2.5, 11), (1, -0.5, 14), towards=-1),
    Brick("slope", GREY, (0, -0.5, 11), (1, 2.5, 14), towards=-1),
    Brick("brick", RED, (1, -2.5, 11), (4, -0.5, 14)),
    Brick("brick", RED, (1, -0.5, 11), (4, 2.5, 14)),
    Brick("brick", GREY, (4, -2.5, 11), (5, 2.5, 14)),
    Brick("tile", YELLOW, (1, -2.5, 14), (2, 1.5, 15)),  # cloth
    Brick("brick", RED, (2, -2.5, 14), (4, 2.5, 15)),
    *pair("panel", RED, (1, 2.5, 8.5), (4, 2.9, 13.5)),
    Brick("tile", YELLOW, (4, -2.5, 14), (5, -1.5, 15), True),
    Brick("round", YELLOW, (2, -1.5, 15), (4, 0.5, 16)),
    Brick("round", RED, (3, -0.5, 16), (4, 0.5, 18), True),
    Brick("round", GREY, (-1, -0.5, 8), (0, 0.5, 10)),  # tail
    Brick("round", PINK, (-1, -0.5, 5), (0, 0.5, 8), True),
    Brick("brick", GREY, (5, -1.5, 9), (8, 1.5, 10)),  # head
    Brick("brick", GREY, (5, -1.5, 10), (7, 1.5, 12)),
    Brick("brick", GREY, (7, 0.5, 10), (8, 1.5, 12)),
    Brick("brick", GREY, (7, -1.5, 10), (8, 0.5, 12)),
    *pair("brick", GREY, (5, 0.5, 12), (6, 1.5, 15)),
    *pair("brick", GREY, (6, 0.5, 12), (8, 1.5, 15)),
    Brick("brick", GREY, (5, -0.5, 12), (7, 0.5, 15)),
    Brick("slope", GREY, (7, -0.5, 12), (9, 0.5, 15), towards=1),
    Brick("slope", GREY, (5, -1.5, 15), (8, 0.5, 18), towards=1),
    Brick("slope", GREY, (5, 0.5, 15), (8, 1.5, 18), towards=1),
    Brick("brick", RED, (5, -1.5, 18), (6, 1.5, 19)),
    Brick("cone", YELLOW, (5, -0.5, 19), (6, 0.5, 21), True),
    Brick("round", GREY, (8, -0.5, 9), (9, 0.5, 12)),  # trunk
    Brick("round", GREY, (8, -0.5, 6), (9, 0.5, 9)),
    Brick("brick", GREY, (8, -0.5, 5), (10, 0.5, 6)),
    Brick("round", PINK, (9, -0.5, 6), (10, 0.5, 7), True),
    *pair("brick", WHITE, (7, 0.5, 8), (9, 1.5, 9)),  # tusks
    *pair("cone", WHITE, (8, 0.5, 9), (9, 1.5, 12), True),
    *pair("shield", GREY, (5.2, 1.3, 10.5), (5.6, 4.3, 18), True),  # ears
    *pair("shield", PINK, (5.6, 1.75, 11.75), (5.9, 3.75, 16.75), True),
]
MODEL = Model(BRICKS, ORIGIN, (LOW, HIGH), AIM, COLOURS, SHOWN)
distance = MODEL.distance
EYE, EMBLEM = (7.0, 1.5, 13.5), (2.5, 2.9, 11.0)  # middles of the prints, as corners of bricks
SIDES = ((-1, 0, 0), (0, 0, -1)), ((1, 0, 0), (0, 0, -1))  # right and down of the left, the right
FACE, PX = (0.80, 0.40), 500  # of the prints' picture: half sizes, px per world unit
LEFT_OUT, MOVED, SMEARED = range(3)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (burr, missing, stain, scratch, misprint)."""
    if kind != "misprint":
        return MODEL.random_defect(kind, rng)
    eye, side = rng.random() < 0.5, rng.choice([1, -1])
    form = int(rng.integers(3))
    far = rng.uniform(0.035, 0.06) if eye else rng.uniform(0.05, 0.10)
    turn = rng.uniform(0, 2 * np.pi)
    sizes = {"form": form, "smeared": form == SMEARED, "eye": eye, "radius": 0.11 if eye else 0.25}
    if not eye and form == LEFT_OUT:
        sizes["radius"] = rng.uniform(0.08, 0.14)
    sizes |= {"across": far * np.cos(turn), "down": far * np.sin(turn)}
    centre = _place(EYE if eye else EMBLEM) * (1, side, 1)
    return described(kind, centre, (0, side, 0), int(rng.integers(1 << 30)), sizes)


def _place(corner):
    """World units of a place given as the bricks' corners, [3]."""
    return (np.array(corner) - ORIGIN) * (PITCH, PITCH, PLATE)


def mesh(defect: dict | None = None):
    """The elephant's surface with colour, metallic and roughness per vertex."""
    return MODEL.mesh(defect, _printed)


def _printed(points, which, defect):
    """Which of the points [N, 3] are inked, [N], and their ink's colour, [N, 3]."""
    x, y, _ = points.T
    face = np.where(x > _place((4.5, 0, 0))[0], _place(EYE)[1], _place(EMBLEM)[1])
    ink = np.zeros(len(points), int)
    for k, side in enumerate((1, -1)):
        on = np.abs(side * y - face) < 0.006
        ink[on] = _inked(points[on], k, defect)
    return ink > 0, INKS[ink - 1]


def _inked(points, side: int, defect: dict | None):
    """Ink at points [N, 3] of the left (0) or the right side: 0 or 1 + index in INKS, [N]."""
    own = None
    if defect and defect["kind"] == "misprint" and (defect["centre"][1] < 0) == side:
        own = defect

    def printed(at):
        return picked(_image(side), *((at + FACE) * PX).T)

    if own is None or own["form"] != LEFT_OUT:
        return inked_face(printed, points, SIDES[side], own)
    away = np.linalg.norm(points - np.array(own["centre"]), axis=1)
    return inked_face(printed, points, SIDES[side], None) * (away > own["radius"])


@cache
def _image(side: int) -> np.ndarray:
    """What is printed on the left (0) or the right side, [rows, columns]."""
    canvas = Canvas(FACE, PX)
    (eye, _, high), (middle, _, level) = _place(EYE), _place(EMBLEM)
    flip = 1 if side else -1
    canvas.disc(flip * eye, -high, 0.058, BLANK, 0.072)
    canvas.disc(flip * (eye + 0.014), -high + 0.008, 0.036, BLACK, 0.046)
    canvas.disc(flip * (eye + 0.026), -high - 0.012, 0.011, BLANK)
    middle *= flip
    left, upper, right, lower = middle - 0.262, -level - 0.167, middle + 0.262, -level + 0.167
    canvas.rectangle(left, upper, right, lower, None, GOLD, 9)
    if side == 0:
        for turn in np.arange(7) * 2 * np.pi / 7:
            place = middle + 0.078 * np.cos(turn), -level + 0.078 * np.sin(turn)
            canvas.disc(*place, 0.034, BLANK)
        canvas.disc(middle, -level, 0.048, GOLD)
    else:
        canvas.write(middle, -level - 0.03, 84, BLANK, "J7", stroke=3)
        canvas.write(middle, -level + 0.11, 30, GOLD, "CIRCUS")
    for corner in ((-0.2, -0.11), (0.2, -0.11), (-0.2, 0.11), (0.2, 0.11)):
        canvas.disc(middle + corner[0], -level + corner[1], 0.018, GOLD)
    return canvas.inks()
