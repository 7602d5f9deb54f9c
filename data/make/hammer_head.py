"""The hammer's head: block about the eye, neck, domed face, cleft claw, stamped cheeks."""

from functools import cache

import numpy as np

from .canvas import Canvas
from .marks import ink_distance, marked_face
from .mesh import both, box, rod, smooth_min

AXIS = 0.65  # z of the head
CHEEK = (0.145, 0.122, 0.150)  # half sizes of the block about the eye
NECK, FACE = (0.098, 0.08, 0.36), (0.142, 0.30, 0.465)  # radius, from and to x
CROWN = 0.9  # radius that the face is domed with
CLAW = (-0.08, 0.55, 1.02)  # x of the arc's middle, its radius, the angle it ends at
THICK, WIDE = (0.098, 0.014), (0.088, 0.128)  # of the claw: halved, at the cheek and at the end
CLEFT = (0.20, 0.056)  # where it starts along the arc, half width at the end
PX = 400  # of the stamps, per world unit
STAMP, DEEP = (0.135, 0.075), 0.012  # half sizes of the stamped lettering, depth


def head_distance(x, y, z):
    """Distance-like value of the head: cheeks, neck, face, cleft claw, stamped letters."""
    up = z - AXIS
    cheek = box(x, y, up, CHEEK, 0.035) + 0.12 * np.abs(x)
    neck = rod(y, up, x, *NECK, 0.02)
    radius, start, end = FACE
    face = rod(y, up, x, radius, start, end, 0.035)
    dome = np.sqrt((x - end + CROWN) ** 2 + y**2 + up**2) - CROWN
    face = -smooth_min(-face, -dome, 0.01)
    head = smooth_min(smooth_min(cheek, neck, 0.08), face, 0.06)
    middle, radius, last = CLAW
    reach = np.hypot(x - middle, up + radius) - radius
    angle = np.arctan2(middle - x, up + radius)
    share = (angle / last).clip(0, 1)
    thick = THICK[0] + (THICK[1] - THICK[0]) * share**0.9
    wide = WIDE[0] + (WIDE[1] - WIDE[0]) * share
    claw = -smooth_min(thick - np.abs(reach), wide - np.abs(y), 0.03)
    claw = both(claw, radius * (angle - last), radius * (-0.12 - angle), -0.5 - up)
    begin, opened = CLEFT
    along = (radius * angle - begin) / (radius * last - begin)
    cleft = both(np.abs(y) - opened * along.clip(0) ** 0.8 - 0.35 * reach * along.clip(0), -along)
    head = smooth_min(head, np.maximum(claw, -cleft), 0.05)
    front, back = (_stamped(side * x, up, side) for side in (1, -1))
    stamped = np.where(y < 0, front, back)
    return np.maximum(head, -both(stamped, -head - DEEP, np.abs(x) - 0.2))


def _stamped(right, up, side):
    """Distance-like value of a cheek's letters, endless through it."""
    return marked_face(_stamp_image(side), right, -up, STAMP, PX).astype(right.dtype)


@cache
def _stamp_image(side: int) -> np.ndarray:
    """Distance to the letters of a cheek in world units, negative within, [rows, columns]."""
    canvas = Canvas(STAMP, PX)
    texts = ((-0.022, 36, "KORVA"), (0.045, 24, "forged")) if side > 0 else ((0, 46, "450"),)
    for down, size, text in texts:
        canvas.write(0, down, size, 255, text)
    return ink_distance(canvas.image, PX)
