"""The paper label on the hammer's handle: where it sits, askew or ripped, and its print."""

from functools import cache

import numpy as np

from .canvas import Canvas
from .marks import misprinted, picked
from .mesh import both, box

LABEL = (-0.13, 0.195, 0.098, 0.005)  # z of the middle, half height, half width, thickness
RADIUS, PX = 0.084, 400  # that the label is unrolled with; pixels of the prints per world unit
INKS = np.array([(0.28, 0.018, 0.014), (0.02, 0.02, 0.022), (0.77, 0.75, 0.68)])
RED, BLACK, BLANK = 1, 2, 3  # the inks' numbers
ASKEW, RIPPED, SMEARED = range(3)  # what is wrong with the label


def on_label(x, y, z, defect):
    """Places along the label (upwards) and down it (to the right), from its middle.

    x: from the handle's axis.
    """
    right, below = z - LABEL[0], RADIUS * np.arctan2(x, -y)
    if not defect or defect["kind"] != "label" or defect["form"] != ASKEW:
        return right, below
    cos, sin = np.cos(defect["turn"]), np.sin(defect["turn"])
    right = right - defect["up"]
    return cos * right + sin * below, cos * below - sin * right


def ripped(right, below, defect):
    """Distance-like value of the ragged piece that a label has lost."""
    ragged = 0.010 * np.sin(60 * right + defect["seed"] % 7) + 0.008 * np.sin(91 * below + right)
    return np.hypot(right - defect["right"], below - defect["below"]) - defect["radius"] + ragged


def label_outline(right, below):
    return box(right, below, 0 * right, (*LABEL[1:3], 1), 0.02)


def label_distance(right, below, smooth, defect):
    """Distance-like value of the label, over the flawless handle's value `smooth`."""
    outline = label_outline(right, below)
    if defect and defect["kind"] == "label" and defect["form"] == RIPPED:
        outline = np.maximum(outline, -ripped(right, below, defect))
    return both(outline, smooth - LABEL[3], -smooth - 0.004)


def inked(places, defect):
    """Ink at places [N, 2] (right, down) of the label: 0 or 1 + index in INKS."""
    if not defect or defect["kind"] != "label" or defect["form"] != SMEARED:
        return _printed(places)
    return misprinted(_printed, places, np.array([defect["right"], defect["below"]]), defect)


def _printed(places):
    return picked(_print_image(), *((places + LABEL[1:3]) * PX).T)


@cache
def _print_image() -> np.ndarray:
    """What is printed on the label, [rows, columns]."""
    wide, high = LABEL[1:3]
    canvas = Canvas((wide, high), PX)
    canvas.draw.fontmode = "1"  # no shades: they would be other inks
    canvas.rectangle(-wide, -high, wide, -0.030, RED)
    canvas.write(-0.02, -0.063, 25, BLANK, "KORVA", 1)
    canvas.disc(0.145, -0.063, 0.022, BLANK)
    canvas.write(-0.085, 0.005, 20, BLACK, "ASH 16 oz")
    canvas.bar_code(-0.17, 0.032, 0.0, 0.082, BLACK, seed=3)
    canvas.write(0.10, 0.045, 42, RED, "450", 1)
    return canvas.inks()
