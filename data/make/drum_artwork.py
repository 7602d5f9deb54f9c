"""What is printed on the toy drum: the figures about its shell, unrolled, and the heads' marks."""

from functools import cache

import numpy as np

from .canvas import Canvas

PX = 300  # of the prints, per world unit
HALF_PRINT = (2.06, 0.43)  # of the unrolled picture, world units
HEAD_HALF = 0.58  # half size of the heads' pictures
# base colour, metallic, roughness
INKS = np.array(
    [(0.74, 0.62, 0.34, 0, 0.22), (0.80, 0.50, 0.03, 0, 0.22), (0.02, 0.05, 0.20, 0, 0.22)]
    + [(0.46, 0.02, 0.02, 0, 0.22), (0.03, 0.16, 0.06, 0, 0.22), (0.20, 0.09, 0.035, 0, 0.22)]
    + [(0.78, 0.76, 0.72, 0, 0.22), (0.30, 0.48, 0.60, 0, 0.22), (0.015, 0.015, 0.018, 0, 0.3)]
)
CREAM, GOLD, NAVY, RED, GREEN, BROWN, WHITE, SKY, BLACK = range(1, 10)  # the inks' numbers


@cache
def print_image() -> np.ndarray:
    """The shell's litho: six figures on a meadow, between bands, [rows, columns]."""
    canvas = Canvas(HALF_PRINT, PX)
    canvas.draw.fontmode = "1"  # no shades: they would be other inks
    wide, high = HALF_PRINT
    canvas.rectangle(-wide, -high, wide, high, SKY)
    canvas.rectangle(-wide, -high, wide, -0.255, NAVY)
    right = np.linspace(-wide, wide, 200)
    hills = 0.13 + 0.035 * np.sin(3.05 * right) + 0.02 * np.sin(9.15 * right + 1)
    edge = np.stack([right, hills], 1).ravel()
    canvas.draw.polygon(canvas.px(*edge, wide, high, -wide, high), GREEN)
    canvas.rectangle(-wide, 0.255, wide, high, RED)
    for k in range(26):
        at = -wide + (k + 0.5) * 2 * wide / 26
        diamond = (at - 0.05, 0.31, at, 0.275, at + 0.05, 0.31, at, 0.345)
        canvas.draw.polygon(canvas.px(*diamond), GOLD)
        canvas.disc(at, -0.30, 0.018, GOLD if k % 3 else WHITE)
    for figure, right in zip((_bear, _soldier, _house, _fish, _balloon), FIGURES, strict=True):
        figure(canvas, right)
    canvas.rectangle(-0.34, -0.12, 0.34, 0.12, CREAM, RED, 5)
    canvas.write(0, -0.03, 40, NAVY, "TAMBURO", 1)
    canvas.write(0, 0.07, 22, RED, "No. 5", 1)
    return canvas.inks()


FIGURES = (-1.62, -1.15, -0.65, 0.75, 1.45)  # how far right the figures stand


def _bear(canvas, right) -> None:
    canvas.disc(right, 0.09, 0.11, BROWN, 0.13)
    canvas.disc(right, 0.11, 0.065, GOLD, 0.08)
    for side in (-1, 1):
        canvas.disc(right + side * 0.065, -0.16, 0.035, BROWN)
        canvas.disc(right + side * 0.12, 0.04, 0.035, BROWN, 0.07)
        canvas.disc(right + side * 0.07, 0.21, 0.045, BROWN)
    canvas.disc(right, -0.10, 0.09, BROWN)
    canvas.disc(right, -0.075, 0.04, CREAM)
    for side in (-1, 1):
        canvas.disc(right + side * 0.035, -0.12, 0.012, BLACK)
    canvas.disc(right, -0.09, 0.014, BLACK)


def _soldier(canvas, right) -> None:
    canvas.rectangle(right - 0.055, 0.10, right - 0.008, 0.23, NAVY)
    canvas.rectangle(right + 0.008, 0.10, right + 0.055, 0.23, NAVY)
    canvas.rectangle(right - 0.07, -0.06, right + 0.07, 0.11, RED)
    canvas.rectangle(right - 0.105, -0.05, right - 0.075, 0.09, RED)
    canvas.rectangle(right + 0.075, -0.05, right + 0.105, 0.09, RED)
    for down in (-0.03, 0.01, 0.05):
        canvas.rectangle(right - 0.05, down, right + 0.05, down + 0.012, GOLD)
    canvas.disc(right, -0.10, 0.048, CREAM)
    canvas.rectangle(right - 0.055, -0.24, right + 0.055, -0.12, BLACK)
    canvas.rectangle(right - 0.055, -0.15, right + 0.055, -0.135, GOLD)
    canvas.rectangle(right + 0.115, -0.20, right + 0.127, 0.10, BROWN)


def _house(canvas, right) -> None:
    canvas.rectangle(right - 0.15, -0.05, right + 0.15, 0.19, WHITE)
    roof = (right - 0.19, -0.05, right, -0.21, right + 0.19, -0.05)
    canvas.draw.polygon(canvas.px(*roof), RED)
    canvas.rectangle(right - 0.04, 0.06, right + 0.04, 0.19, BROWN)
    for side in (-1, 1):
        canvas.rectangle(right + side * 0.10 - 0.03, 0.0, right + side * 0.10 + 0.03, 0.06, NAVY)
    canvas.disc(right + 0.25, -0.17, 0.055, GOLD)


def _fish(canvas, right) -> None:
    canvas.disc(right, -0.02, 0.17, GOLD, 0.10)
    tail = (right + 0.14, -0.02, right + 0.26, -0.12, right + 0.22, -0.02, right + 0.26, 0.08)
    canvas.draw.polygon(canvas.px(*tail), RED)
    for k in range(3):
        at = right + 0.07 * (k - 0.6)
        canvas.draw.arc(canvas.px(at - 0.05, -0.08, at + 0.05, 0.04), -70, 70, RED, 6)
    canvas.disc(right - 0.10, -0.05, 0.022, WHITE)
    canvas.disc(right - 0.10, -0.05, 0.011, BLACK)


def _balloon(canvas, right) -> None:
    canvas.disc(right, -0.08, 0.14, RED, 0.15)
    canvas.disc(right, -0.08, 0.085, CREAM, 0.15)
    canvas.disc(right, -0.08, 0.035, NAVY, 0.15)
    for side in (-1, 1):
        canvas.draw.line(canvas.px(right + side * 0.11, 0.01, right + side * 0.04, 0.13), BROWN, 3)
    canvas.rectangle(right - 0.05, 0.12, right + 0.05, 0.19, BROWN)


@cache
def head_image(side: int) -> np.ndarray:
    """The mark on the upper head (1) or the lower one (-1), [rows, columns]."""
    canvas = Canvas((HEAD_HALF, HEAD_HALF), PX)
    canvas.draw.fontmode = "1"
    if side > 0:
        canvas.disc(0, -0.36, 0.25, RED, 0.085)
        canvas.disc(0, -0.36, 0.235, 0, 0.07)
        canvas.write(0, -0.36, 28, RED, "GENUINE", 0)
        canvas.draw.arc(canvas.px(-0.53, -0.53, 0.53, 0.53), 0, 360, NAVY, 4)
        return canvas.inks()
    canvas.write(0, -0.10, 62, NAVY, "TAMBURO", 2)
    canvas.write(0, 0.05, 34, RED, "tin toys since 1931", 0)
    canvas.write(0, 0.20, 28, BLACK, "0-3 NO   TT-0417", 0)
    canvas.disc(0, -0.34, 0.10, RED)
    star = [
        (
            (0.085, 0.036)[k % 2] * np.sin(k * np.pi / 5),
            (0.085, 0.036)[k % 2] * -np.cos(k * np.pi / 5),
        )
        for k in range(10)
    ]
    canvas.draw.polygon(canvas.px(*(np.array(star) + (0, -0.34)).ravel()), GOLD)
    return canvas.inks()
