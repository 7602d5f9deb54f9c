"""The lid of the drinks can, with all that is stamped into it, and its ring pull."""

from functools import cache

import numpy as np

from .canvas import Canvas
from .marks import ink_distance, marked_face
from .mesh import both, box, rod, smooth_min

SINK, PANEL = (0.345, 0.768), (0.318, 0.815)  # of the groove about the panel, the panel: radius, z
OPENING, SCORE = (0.150, 0.135, 0.120), (0.010, 0.013)  # x, half sizes; half width, depth
BEAD = (0.272, 0.016, 1.9)  # raised line about the pull: radius, height, half angle
RIVET = (0.042, 0.872)  # radius, z of its head
PULL_TURN = 0.62  # azimuth that the pull's nose points to
PULL = (-0.085, 0.178, 0.108)  # of its outline: x, half sizes
SHEET, CURL = (0.840, 0.012), 0.021  # z and half thickness of the pull's sheet; radius of its edge
RING, SLOT = (-0.168, 0.062, 0.066), (0.064, 0.011)  # hole: x, half sizes; radius, half width
LETTERS, RAISED = (0.26, 0.26), 0.010  # half sizes, height
PX = 400  # of the letters, per world unit
LOST, SNAPPED, LIFTED, TURNED = range(4)  # what is wrong with the pull


def along_pull(along, aside):
    """x, y and z of places on the lid, along the pull and aside of it."""
    cos, sin = np.cos(PULL_TURN), np.sin(PULL_TURN)
    return np.array([cos * along - sin * aside, sin * along + cos * aside, 0 * along])


def on_lid(x, y):
    """Places along the pull and aside of it."""
    cos, sin = np.cos(PULL_TURN), np.sin(PULL_TURN)
    return cos * x + sin * y, cos * y - sin * x


def with_lid(body, x, y, z):
    """Distance-like value of the can's top with the lid's panel in place of what was there."""
    along, aside = on_lid(x, y)
    flat = np.sqrt(x * x + y * y)
    spot = np.hypot((along - OPENING[0]) / OPENING[1], aside / OPENING[2]) - 1
    score = SCORE[1] * (1 - np.abs(spot) * OPENING[2] / SCORE[0]).clip(0)
    lifted, level, spread = BEAD
    behind = np.arctan2(aside, -along)
    bead = level * (1 - ((flat - lifted) / 0.022) ** 2).clip(0) * (np.abs(behind) < spread)
    finger = 0.022 * (1 - np.hypot(along + 0.235, 0.7 * aside) / 0.09).clip(0) ** 0.5
    sheet = both(z - PANEL[1] - bead + score + finger, flat - PANEL[0], PANEL[1] - 0.1 - z)
    letters = both(_letters(along, aside), z - PANEL[1] - RAISED, PANEL[1] - 0.02 - z)
    rivet = rod(along, aside, z, RIVET[0], PANEL[1] - 0.02, RIVET[1], 0.014)
    cut = np.maximum(body, -both(PANEL[1] - 0.03 - z, flat - PANEL[0] + 0.012))
    return np.minimum.reduce([cut, sheet, letters, rivet])


def pull_distance(x, y, z, defect):
    """Distance-like value of the ring pull: a sheet with curled edges, slot and ring hole."""
    form = int(defect["form"]) if defect and defect["kind"] == "pull" else None
    if form == LOST:
        return np.full_like(x, 9)
    along, aside = on_lid(x, y)
    up = z - SHEET[0]
    if form in (LIFTED, TURNED):
        cos, sin = np.cos(defect["angle"]), np.sin(defect["angle"])
        if form == TURNED:
            along, aside = cos * along + sin * aside, cos * aside - sin * along
        else:  # about the edge of the rivet
            off = along + SLOT[0] - 0.01
            along = np.where(off < 0, cos * off - sin * up - SLOT[0] + 0.01, along)
            up = np.where(off < 0, cos * up + sin * off, up)
    middle, long, wide = PULL
    narrow = wide - 0.10 * (along - middle)
    outline = box(along - middle, aside * wide / narrow, 0 * up, (long, wide, 1), 0.095)
    hole = box(along - RING[0], aside, 0 * up, (*RING[1:], 1), 0.05)
    slot = both(np.abs(np.hypot(along, aside) - SLOT[0]) - SLOT[1], -0.035 - along)
    sheet = both(np.abs(up) - SHEET[1], outline + 0.012, -hole, -slot)
    curl = np.minimum(np.hypot(outline + CURL, up), np.hypot(hole - 0.012, up) + 0.006) - CURL
    pull = smooth_min(sheet, curl, 0.01)
    pull = np.maximum(pull, -both(np.hypot(along, aside) - RIVET[0] + 0.006, -up))
    if form == SNAPPED:
        pull = np.maximum(pull, -_snapped(along, aside, defect))
    return pull


def _snapped(along, aside, defect):
    """Distance-like value of what is missing of the pull: behind a rough slanting line."""
    rough = 0.007 * np.sin(61 * aside + defect["seed"] % 7) + 0.004 * np.sin(140 * aside)
    return along - defect["cut"] - defect["slant"] * aside + rough


def _letters(along, aside):
    """Distance-like value of the letters on the lid, endless along z; read from the pull's end."""
    return marked_face(_letter_image(), -aside, -along, LETTERS, PX).astype(aside.dtype)


@cache
def _letter_image() -> np.ndarray:
    """Distance to the lid's letters in world units, negative within, [rows, columns]."""
    canvas = Canvas(LETTERS, PX)
    canvas.write(-0.19, 0.0, 40, 255, "L")
    canvas.write(0.19, 0.0, 40, 255, "Z7")
    return ink_distance(canvas.image, PX)
