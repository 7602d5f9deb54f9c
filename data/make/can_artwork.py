"""What is printed on the drinks can: its artwork, unrolled, and the date on its dome."""

from functools import cache

import numpy as np

from .canvas import Canvas

RADIUS, PX = 0.49, 400  # that the print is unrolled with; pixels of the prints per world unit
HALF_PRINT = (1.545, 0.80)  # of the unrolled picture, world units
DATE = (0.20, 0.12)  # half sizes of the print on the dome
# base colour, metallic, roughness
INKS = np.array(
    [(0.012, 0.050, 0.23, 0.55, 0.24), (0.78, 0.78, 0.75, 0, 0.30), (0.82, 0.23, 0.012, 0.35, 0.25)]
    + [(0.85, 0.58, 0.03, 0.35, 0.25), (0.03, 0.25, 0.055, 0.4, 0.25)]
    + [(0.46, 0.012, 0.05, 0.5, 0.25), (0.015, 0.015, 0.02, 0, 0.35)]
)
BLUE, WHITE, ORANGE, YELLOW, GREEN, RED, BLACK = range(1, 8)  # the inks' numbers
TEXTS = (  # right, down, letters' height, ink, text
    (0.0, -0.42, 112, WHITE, "ZESTRA"),
    (0.0, 0.39, 46, YELLOW, "blood orange"),
    (-0.86, 0.42, 52, WHITE, "SPARKLING"),
    (1.52, -0.33, 62, WHITE, "330 ml"),
    (1.52, 0.38, 36, YELLOW, "DEPOSIT 25c"),
    (0.86, -0.50, 40, BLACK, "NUTRITION"),
)
SLICES = ((0.0, -0.02, 0.25, RED), (-0.80, -0.22, 0.19, YELLOW), (-1.18, 0.13, 0.13, ORANGE))
TABLE = (("energy", "182"), ("sugar", "10.4"), ("fruit", "12 %"), ("salt", "0.02"))
LABEL, BARS = (0.58, -0.57, 1.14, 0.42), (0.66, 0.02, 1.06, 0.32)  # left, upper, right, lower


@cache
def date_image() -> np.ndarray:
    """What is printed on the dome, [rows, columns]."""
    canvas = Canvas(DATE, PX)
    canvas.write(0, -0.045, 38, 255, "BB 04 27")
    canvas.write(0, 0.05, 38, 255, "L 1852 K")
    return np.asarray(canvas.image)


@cache
def print_image() -> np.ndarray:
    """What is printed on the wall, [rows, columns]."""
    canvas, rng = Canvas(HALF_PRINT, PX), np.random.default_rng(4)
    canvas.draw.fontmode = "1"  # no shades: they would be other inks
    canvas.rectangle(*(-s for s in HALF_PRINT), *HALF_PRINT, BLUE)
    right = np.linspace(-HALF_PRINT[0], HALF_PRINT[0], 300)
    turn = right / RADIUS
    for base, ink in ((0.56, ORANGE), (0.63, RED), (0.70, YELLOW)):  # waves at the foot
        top = base + 0.05 * np.sin(turn) + 0.03 * np.sin(3 * turn + 9 * base)
        edge = np.stack([right, top], 1).ravel()
        canvas.draw.polygon(canvas.px(*edge, HALF_PRINT[0], 1, -HALF_PRINT[0], 1), ink)
    canvas.rectangle(-HALF_PRINT[0], -0.78, HALF_PRINT[0], -0.735, ORANGE)
    for _ in range(46):  # bubbles, thicker at the back
        place = rng.uniform(-1.5, -0.45), rng.uniform(-0.66, 0.5), rng.choice([0.012, 0.02, 0.032])
        canvas.disc(*place, WHITE)
        canvas.disc(place[0], place[1], 0.6 * place[2], BLUE)
    for right, down, radius, ink in SLICES:
        _draw_slice(canvas, right, down, radius, ink)
    leaf = np.array([(0.22, -0.20), (0.30, -0.29), (0.42, -0.28), (0.36, -0.19), (0.26, -0.15)])
    canvas.draw.polygon(canvas.px(*leaf.ravel()), GREEN)
    canvas.rectangle(*LABEL, WHITE)
    for k, (name, amount) in enumerate(TABLE):
        down = -0.40 + 0.095 * k
        canvas.write(LABEL[0] + 0.06, down, 32, BLACK, name, anchor="lm")
        canvas.write(LABEL[2] - 0.06, down, 32, BLACK, amount, anchor="rm")
    canvas.bar_code(*BARS, BLACK, seed=8)
    canvas.draw.regular_polygon((*canvas.px(1.40, 0.02), 66), 3, 0, GREEN)
    canvas.draw.regular_polygon((*canvas.px(1.40, 0.02), 30), 3, 180, WHITE)
    for text in TEXTS:
        for turns in (-1, 0, 1):  # what goes on at the other edge
            canvas.write(text[0] + 2 * np.pi * RADIUS * turns, *text[1:], stroke=1)
    return canvas.inks()


def _draw_slice(canvas, right, down, radius, ink) -> None:
    """A slice of a citrus fruit: peel, pith, eight segments."""
    canvas.disc(right, down, radius, ORANGE if ink == RED else ink)
    canvas.disc(right, down, 0.88 * radius, WHITE)
    for k in range(8):
        turn = 2 * np.pi * (k + 0.2) / 8
        aside = turn + np.array([-0.3, -0.15, 0, 0.15, 0.3])
        rim = 0.8 * radius * np.stack([np.cos(aside), np.sin(aside)], 1) + (right, down)
        tip = right + 0.12 * radius * np.cos(turn), down + 0.12 * radius * np.sin(turn)
        canvas.draw.polygon(canvas.px(*tip, *rim.ravel()), ink)
