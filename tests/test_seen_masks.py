"""What one would see of a defect."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from data.make.masks import SEEN_DIFFERENCE, seen_mask

SIDE = 100


def test_lab_is_the_standards():
    # CIE L*a*b* of sRGB's white, black, red, green and blue under D65
    colours = [[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    wanted = [
        [100, 0, 0],
        [0, 0, 0],
        [53.24, 80.09, 67.20],
        [87.73, -86.18, 83.18],
        [32.30, 79.19, -107.86],
    ]
    assert rgb2lab(np.array(colours, np.uint8)) == pytest.approx(np.array(wanted), abs=0.03)


def pictures(*squares: tuple[slice, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mask, photograph and flawless photograph; each square lighter by so much."""
    sound = np.full((SIDE, SIDE, 3), 100, np.uint8)
    photo, mask = sound.copy(), np.zeros((SIDE, SIDE), bool)
    for where, lighter in squares:
        photo[where, where] += lighter
        mask[where, where] = True
    return mask, photo, sound


def test_an_island_stays_whole_where_a_tenth_of_it_is_seen_and_goes_where_none_is():
    plain, seen = (slice(10, 30), 2), (slice(50, 70), 60)
    mask, photo, sound = pictures(plain, seen)
    photo[60:70, 50:70] = 100  # half of what is seen looks as before
    wanted = np.zeros_like(mask)
    wanted[50:70, 50:70] = True
    assert (seen_mask(mask, photo, sound) == wanted).all()


def test_too_little_is_none():
    assert seen_mask(*pictures((slice(10, 30), 2))) is None
    assert seen_mask(*pictures()) is None
    assert seen_mask(*pictures((slice(10, 11), 60))) is None  # one pixel, smoothed away
    assert seen_mask(*pictures((slice(10, 14), 60))).sum() == 16


def test_the_bound_is_a_difference_of_colour():
    greys = np.stack([np.full(3, grey, np.uint8) for grey in range(256)])
    step = np.abs(np.diff(rgb2lab(greys)[:, 0]))
    lighter = int(np.ceil(SEEN_DIFFERENCE / step[100:120].mean()))
    assert seen_mask(*pictures((slice(10, 30), lighter - 2))) is None
    assert seen_mask(*pictures((slice(10, 30), lighter + 2))) is not None
