"""Parts of a circuit board: where they sit, their shapes and what their surfaces look like."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .mesh import both, box, cylinder

TOP, BOTTOM = -0.08, -0.15  # of the bare board
BLACK, WHITE, TIN = (0.025, 0.025, 0.028), (0.72, 0.72, 0.70), (0.62, 0.62, 0.60)
GOLD, CREAM, AMBER = (0.70, 0.48, 0.16), (0.5, 0.36, 0.16), (0.50, 0.22, 0.02)
BLUE, NAVY, RED = (0.015, 0.10, 0.40), (0.02, 0.03, 0.12), (0.20, 0.02, 0.02)
PITCH = {"chip": 0.06, "dual": 0.08, "sink": 0.09, "terminal": 0.27}


@dataclass(frozen=True)
class Part:
    """A part on the board (a joint: beneath it): form, centre, half sizes, colour, roughness."""

    form: str
    x: float
    y: float
    half: tuple[float, float, float]
    colour: tuple[float, float, float] = BLACK
    roughness: float = 0.45
    turn: float = 0.0  # about the board's normal, rad
    lean: tuple[float, float] = (0.0, 0.0)  # of a pin: sideways per height

    @property
    def reach(self) -> float:
        """No part of it is farther from x or y than this, legs, bent pins and turns included."""
        return 1.5 * max(self.half) + 0.15

    def local(self, x, y, z):
        """World to the part's own frame, origin at its centre."""
        x, y = x - self.x, y - self.y
        z = z - BOTTOM if self.form == "joint" else z - TOP - self.half[2]
        if any(self.lean):
            bent = np.maximum(z + self.half[2] - 0.1, 0)
            x, y = x - self.lean[0] * bent, y - self.lean[1] * bent
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return cos * x + sin * y, cos * y - sin * x, z

    def comb(self, v):
        """A coordinate taken back into the period of the part's legs, fins or wells."""
        pitch = PITCH[self.form]
        return v - pitch * np.round(v / pitch)


LOOSE = (  # can be left off or set askew
    Part("chip", -0.03, -0.12, (0.20, 0.20, 0.045)),
    Part("dual", -0.20, 0.42, (0.22, 0.10, 0.055)),
    Part("dual", 0.50, -0.18, (0.18, 0.09, 0.05), turn=np.pi / 2),
    Part("end", 0.17, 0.52, (0.10, 0.06, 0.07), AMBER),
    Part("end", 0.17, 0.33, (0.09, 0.055, 0.04), CREAM),
    Part("end", -0.45, 0.10, (0.09, 0.055, 0.04), turn=np.pi / 2),
    Part("end", -0.45, -0.16, (0.09, 0.055, 0.04), turn=np.pi / 2),
    Part("crystal", 0.12, -0.53, (0.15, 0.06, 0.07), TIN, 0.25),
)
CANS = (
    Part("can", -0.32, -0.47, (0.13, 0.13, 0.17), NAVY, 0.3, turn=0.4),
    Part("can", 0.41, -0.53, (0.10, 0.10, 0.13), NAVY, 0.3, turn=2.0),
    Part("can", 0.64, -0.53, (0.10, 0.10, 0.13), RED, 0.3, turn=-1.0),
)
PINS = tuple(Part("pin", 0.87, -0.33 + 0.1 * k, (0.019, 0.019, 0.17), GOLD, 0.25) for k in range(6))
FIXED = (
    Part("terminal", -0.75, 0.02, (0.15, 0.42, 0.15), BLUE),
    Part("sink", 0.60, 0.36, (0.27, 0.23, 0.18)),
    Part("block", 0.87, -0.08, (0.05, 0.30, 0.045)),
)
JOINTS = tuple(
    Part("joint", x, y, (0.045, 0.045, 0.045), TIN, 0.3)
    for x, y in [(p.x, p.y) for p in PINS]
    + [(p.x + d, p.y) for p in CANS for d in (-0.05, 0.05)]
    + [(-0.70, 0.02 + d) for d in (-0.27, 0, 0.27)]
    + [(0.43, 0.36), (0.77, 0.36), (0.04, -0.53), (0.20, -0.53)]
)
PARTS = LOOSE + CANS + PINS + FIXED + JOINTS


def part_distance(part: Part, x, y, z):
    """Distance-like value of one part, arrays of one shape in world units."""
    u, v, w = part.local(x, y, z)
    form, (a, b, c) = part.form, part.half
    if form == "joint":
        return (np.sqrt(u * u + v * v + (0.8 * w) ** 2) - a) * 0.9
    if form == "can":
        body = np.maximum(cylinder(u, v, a), np.abs(w) - c)
        groove = np.minimum(np.abs(u), np.abs(v)) - 0.012
        lid = np.maximum(cylinder(u, v, 0.75 * a), c - 0.02 - w)
        waist = 0.012 - np.hypot(cylinder(u, v, a + 0.002), w - c + 0.06)
        return np.maximum.reduce([body, -np.maximum(groove, lid), waist])
    solid = box(u, v, w, part.half, rounding=0.055 if form == "crystal" else 0.01)
    if form in ("chip", "dual"):
        legs = [(u, v, a, b)] if form == "chip" else []
        for across, along, deep, wide in [*legs, (v, u, b, a)]:
            beyond, tooth = np.abs(across) - deep, part.comb(along)
            foot = box(beyond - 0.04, tooth, w + c - 0.012, (0.045, 0.018, 0.012))
            bow = box(beyond - 0.005, tooth, w + 0.3 * c, (0.022, 0.018, 0.7 * c))
            row = np.abs(along) - wide + 0.01
            solid = np.minimum(solid, np.maximum(np.minimum(foot, bow), row))
    elif form == "terminal":
        v = part.comb(v)
        well = np.maximum(cylinder(u, v, 0.085), c - 0.06 - w)  # down to the screw's head
        slot = both(np.abs(u + 0.3 * v) - 0.014, c - 0.10 - w, cylinder(u, v, 0.075))
        mouth = box(u + a, v, w + 0.04, (0.10, 0.075, 0.065))
        solid = np.maximum(solid, -np.minimum.reduce([well, slot, mouth]))
    elif form == "sink":
        solid = np.maximum(solid, -np.maximum(np.abs(part.comb(u)) - 0.024, 0.08 - c - w))
    return solid


def painted(part: Part, u, v, w):
    """Look of a part's surface at points of its own frame, [N, 5]."""
    form, (a, b, c) = part.form, part.half
    metal = 0.8 if form in ("pin", "joint", "crystal") else 0.0
    look = np.tile([*part.colour, metal, part.roughness], (len(u), 1))
    top = w > c - 0.01
    if form in ("chip", "dual"):
        look[(np.abs(u) > a + 0.004) | (np.abs(v) > b + 0.004)] = (*TIN, 0.8, 0.3)
        dot = np.hypot(u + a - 0.045, v + b - 0.045) < 0.02
        look[top & (dot | _lettering("PX4" if form == "chip" else "L73", u, v, a, b)), :3] = 0.45
    elif form == "end":
        look[np.abs(u) > 0.62 * a] = (*TIN, 0.8, 0.3)
    elif form == "can":
        look[(w < c - 0.07) & (np.abs(np.arctan2(v, u)) < 0.45), :3] = WHITE
        look[(w > c - 0.03) & (np.hypot(u, v) < 0.85 * a)] = (*TIN, 0.8, 0.25)
    elif form == "terminal":
        deep = (np.hypot(u, part.comb(v)) < 0.083) & (w > 0) & (w < c - 0.05)
        look[deep] = (*TIN, 0.8, 0.3)
    return look


def _lettering(text: str, u, v, a, b):
    """Where a chip's name stands, [N] bool."""
    image = Image.new("L", (160, 80), 0)
    ImageDraw.Draw(image).text((80, 40), text, 255, ImageFont.load_default(size=64), anchor="mm")
    size = min(a, 2 * b)
    column = ((u / (1.5 * size) + 0.5) * 159).astype(int)
    row = ((0.5 - v / (0.75 * size)) * 79).astype(int)
    inside = (column >= 0) & (column < 160) & (row >= 0) & (row < 80)
    return inside & (np.asarray(image) > 128)[row.clip(0, 79), column.clip(0, 159)]
