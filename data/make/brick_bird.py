"""A toy bird built of plastic bricks with studs, glossy and strongly coloured; its defects.

It looks along x. Left and right look alike but for a few plates of other colours, where bricks
join in the tail and the breast, and one foot that has a stud less.
"""

import numpy as np

from .bricks import Brick, Model, pair

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"burr": 0.001, "missing": 0.0012, "stain": 0.002, "scratch": 0.0011}
LOW, HIGH = np.array([-1.03, -0.55, -0.93]), np.array([1.03, 0.55, 0.97])
AIM = (-0.95, -0.45, -0.84), (0.92, 0.45, 0.88)
ORIGIN = 4.1, 0.0, 11.3  # studs, studs, plates
BLUE, YELLOW, ORANGE, WHITE, BLACK = range(5)
COLOURS = (0.010, 0.10, 0.42), (0.88, 0.52, 0.01), (0.84, 0.19, 0.012), (0.78, 0.77, 0.73)
COLOURS += ((0.016, 0.016, 0.018),)
# which of the stains show on a colour
SHOWN = ((0, 1, 3, 4), (0, 1, 2, 5), (0, 2, 3, 5), (0, 1, 2, 4), (1, 3, 4))
BRICKS = [
    Brick("brick", ORANGE, (3, 0.5, 0), (6, 1.5, 1)),  # feet, legs
    Brick("brick", ORANGE, (3, -1.5, 0), (5, -0.5, 1)),
    Brick("tile", ORANGE, (5, -1.5, 0), (6, -0.5, 1), True),
    *pair("round", ORANGE, (4, 0.5, 1), (5, 1.5, 3)),
    Brick("brick", YELLOW, (3, -1.5, 3), (7, 1.5, 4)),  # belly
    Brick("under", BLUE, (2, -1.5, 4), (4, 1.5, 7), towards=-1),
    Brick("brick", YELLOW, (4, -1.5, 4), (6, 1.5, 7)),
    Brick("under", YELLOW, (6, -1.5, 4), (8, 0.5, 7), towards=1),
    Brick("under", YELLOW, (6, 0.5, 4), (8, 1.5, 7), towards=1),
    Brick("brick", BLUE, (2, -1.5, 7), (4, 1.5, 10)),  # body
    Brick("brick", YELLOW, (4, -1.5, 7), (6, 1.5, 10)),
    Brick("brick", YELLOW, (6, -1.5, 7), (8, -0.5, 10)),
    Brick("brick", YELLOW, (6, -0.5, 7), (8, 1.5, 10)),
    Brick("slope", BLUE, (1, -1.5, 10), (4, 1.5, 13), towards=-1),
    Brick("brick", BLUE, (4, -1.5, 10), (6, 1.5, 13)),
    Brick("brick", YELLOW, (6, -0.5, 10), (7, 0.5, 13)),
    *pair("slope", YELLOW, (6, 0.5, 10), (8, 1.5, 13), towards=1),
    Brick("slope", YELLOW, (7, -0.5, 10), (8, 0.5, 12), True, 1),
    Brick("brick", BLUE, (0, -1.5, 9), (2, 0.5, 10)),  # tail
    Brick("brick", BLUE, (0, 0.5, 9), (2, 1.5, 10)),
    Brick("brick", WHITE, (-1, -1.5, 8), (2, 1.5, 9)),
    Brick("tile", BLACK, (-1, 0.5, 9), (0, 1.5, 10), True),
    Brick("brick", BLACK, (-1, -0.5, 9), (0, 0.5, 10), True),
    Brick("tile", BLACK, (-1, -1.5, 9), (0, -0.5, 10), True),
    Brick("brick", ORANGE, (0, -0.5, 10), (1, 0.5, 11), True),
    *pair("slope", BLUE, (2, 1.5, 10), (4, 2.5, 13), towards=-1),  # wings
    *pair("brick", BLUE, (4, 1.5, 10), (6, 2.5, 13)),
    *pair("brick", WHITE, (2, 1.5, 9), (7, 2.5, 10)),
    *pair("brick", BLUE, (2, 1.5, 6), (5, 2.5, 9)),
    *pair("under", BLUE, (5, 1.5, 6), (7, 2.5, 9), towards=1),
    *pair("tile", BLACK, (1, 1.5, 5), (4, 2.5, 6)),
    *pair("brick", WHITE, (1, 1.5, 6), (2, 2.5, 7), True),
    Brick("brick", YELLOW, (5, 1.5, 13), (6, 2.5, 14), True),
    Brick("brick", WHITE, (5, -2.5, 13), (6, -1.5, 14), True),
    Brick("brick", WHITE, (4, -1.5, 13), (7, 1.5, 14)),  # neck
    Brick("brick", BLUE, (4, -1.5, 14), (6, 1.5, 17)),  # head
    *pair("brick", WHITE, (6, 0.5, 14), (7, 1.5, 17), True),
    Brick("brick", ORANGE, (6, -0.5, 14), (8, 0.5, 15)),
    Brick("slope", ORANGE, (6, -0.5, 15), (9, 0.5, 17), towards=1),
    Brick("brick", BLUE, (4, -1.5, 17), (6, 1.5, 20)),
    Brick("slope", BLUE, (6, -1.5, 17), (7, 1.5, 20), towards=1),
    Brick("tile", BLUE, (4, -1.5, 20), (5, -0.5, 21), True),
    Brick("brick", ORANGE, (4, -0.5, 20), (6, 0.5, 21)),
    Brick("slope", ORANGE, (4, -0.5, 21), (5, 0.5, 23), True, -1),
    *pair("peg", BLUE, (5, 1.4, 17.25), (6, 1.7, 19.75)),
    *pair("disc", WHITE, (5, 1.5, 17.25), (6, 1.9, 19.75), True),
    *pair("disc", BLACK, (5.2, 1.9, 17.75), (5.8, 2.05, 19.25)),
]
MODEL = Model(BRICKS, ORIGIN, (LOW, HIGH), AIM, COLOURS, SHOWN)
distance, random_defect, mesh = MODEL.distance, MODEL.random_defect, MODEL.mesh


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])
