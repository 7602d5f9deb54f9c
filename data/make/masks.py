"""Ground-truth masks: where a defective surface differs from the flawless one in a view."""

from dataclasses import dataclass

import numpy as np

DEPTH_STEP = 0.012  # world units; a tenth of the spring's wire
NORMAL_COSINE = 0.93  # 21.6 degrees
ALBEDO_STEP = 0.06
COVERAGE = 0.34  # share of a pixel that must have changed
MIN_ISLAND_PX = 12
MIN_ISLAND_SHARE = 0.05  # of the largest island: drops slivers that parallax leaves elsewhere
SEEN_DIFFERENCE = 5.0  # CIE 1976 colour difference that one sees at a glance; 2.3 is just noticed
SEEN_SHARE = 0.1  # of an island that must differ by so much
LEAST_SEEN = 0.0004  # share of the image that must: 64 px of 400 x 400


@dataclass
class Hits:
    """What the camera rays meet: hit [H, W] bool, depth [H, W], normal and albedo [H, W, 3]."""

    hit: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    albedo: np.ndarray


def changed_surface(flawless: Hits, defective: Hits) -> np.ndarray:
    """Rays whose hit, depth, shading normal or albedo changed, [H, W] bool.

    Shadows and reflections of the defect elsewhere do not count.
    """
    changed = flawless.hit != defective.hit
    both = flawless.hit & defective.hit
    changed |= both & (np.abs(flawless.depth - defective.depth) > DEPTH_STEP)
    changed |= both & ((flawless.normal * defective.normal).sum(-1) < NORMAL_COSINE)
    changed |= both & (np.abs(flawless.albedo - defective.albedo).max(-1) > ALBEDO_STEP)
    return changed


def tidy_mask(changed: np.ndarray, oversampling: int) -> np.ndarray:
    """Rays to pixels; closes pinholes and drops specks and slivers.

    Args:
        changed: [H s, W s] bool with s = oversampling.
    Returns:
        [H, W] bool.
    """
    from scipy import ndimage

    height, width = (n // oversampling for n in changed.shape)
    share = changed.reshape(height, oversampling, width, oversampling).mean((1, 3))
    square = np.ones((3, 3))
    mask = ndimage.binary_closing(np.pad(share > COVERAGE, 4), square, 2)[4:-4, 4:-4]
    islands, size = _islands(mask)
    keep = size >= max(MIN_ISLAND_PX, MIN_ISLAND_SHARE * size.max(initial=0))
    keep[0] = False
    return keep[islands]


def _islands(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of a mask's islands, which touch at corners, too, [H, W], 0 outside; their sizes."""
    from scipy import ndimage

    islands, _ = ndimage.label(mask, np.ones((3, 3)))
    size = np.bincount(islands.ravel())
    size[0] = 0
    return islands, size


def seen_mask(mask: np.ndarray, photo: np.ndarray, flawless: np.ndarray) -> np.ndarray | None:
    """The mask's islands in which one would see what is wrong; None if there is too little.

    A surface may change and look as before: a part of a black grid lost, a dent in what is burnt
    out. No one would call that a defect of a photograph.

    Args:
        mask: [H, W] bool.
        photo, flawless: the object with its defect and without, in the same light from the same
            place, [H, W, 3] uint8.
    """
    from scipy import ndimage
    from skimage.color import deltaE_cie76, rgb2lab

    difference = deltaE_cie76(rgb2lab(photo), rgb2lab(flawless))
    seen = (ndimage.gaussian_filter(difference, 1) > SEEN_DIFFERENCE) & mask
    islands, size = _islands(mask)
    keep = np.bincount(islands[seen], minlength=len(size)) >= np.maximum(1, SEEN_SHARE * size)
    kept = keep[islands]
    return kept if (seen & kept).mean() >= LEAST_SEEN else None
