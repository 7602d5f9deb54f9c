"""The knight's carved head, neck and mane with its eyes, flawless; z is up, it looks along x."""

import numpy as np

from .lights import smoothstep
from .mesh import both, smooth_min

# the neck from the collar to behind the ears: x, z, radius; its width is a share of its length
NECK, NECK_FLAT = ((0.0, -0.32, 0.30), (-0.08, 0.05, 0.255), (-0.07, 0.36, 0.235)), 0.78
POLL = (0.0, 0.53, 0.185)
CHEST = (0.075, -0.14, 0.235)
JOWL, HEAD_FLAT = (0.09, 0.45), 0.72  # where the head starts (x, z)
AHEAD, UP = (0.855, -0.518), (0.518, 0.855)  # along the head's nose and out of its forehead: x, z
HEAD, MUZZLE = (0.20, 0.40, 0.105), (0.425, 0.008, 0.112)  # radius, length, radius; place, radius
CHIN, JAW = (0.40, -0.065, 0.068), (0.02, -0.02, 0.178)  # along, up, radius
EYE, EYE_HALF = (0.115, 0.088, 0.112), (0.050, 0.037, 0.034)  # along, up, |y|; half sizes
LID, SOCKET = (0.066, 0.015), (0.105, 0.075, 0.035)  # radius, thickness; half sizes
NOSTRIL, NOSTRIL_HALF = (0.475, 0.045, 0.066), (0.030, 0.018, 0.030)
MOUTH = (0.355, -0.048, 0.012, 0.030)  # start along, up, half width, depth
EAR = ((-0.025, 0.078, 0.64, 0.078), (0.035, 0.105, 0.86, 0.014))  # x, |y|, z, radius: root, tip
FORELOCK = ((0.03, 0.665, 0.065), (0.185, 0.60, 0.028))  # x, z, radius
# the mane's middle line: x, z; half sizes across the line and across the knight; a lock's length
MANE = ((-0.02, 0.655), (-0.15, 0.58), (-0.255, 0.42), (-0.31, 0.22), (-0.315, 0.02))
MANE += ((-0.265, -0.17),)
CREST, LOCK, SLANT = (0.115, 0.125), 0.118, 0.75


def _limb(x, y, z, start, end, flat):
    """Distance-like value of a bar from x, z, radius to another at y = 0; `flat`: width's share."""
    dx, dz = end[0] - start[0], end[1] - start[1]
    along = (((x - start[0]) * dx + (z - start[1]) * dz) / (dx * dx + dz * dz)).clip(0, 1)
    away = (x - start[0] - along * dx) ** 2 + (z - start[1] - along * dz) ** 2 + (y / flat) ** 2
    return 0.85 * (np.sqrt(away) - start[2] - along * (end[2] - start[2]))


def _ellipsoid(a, b, c, half):
    """Distance-like value of an ellipsoid of half sizes [3]."""
    away = sum((v / h) ** 2 for v, h in zip((a, b, c), half, strict=True))
    return min(half) * (np.sqrt(away) - 1)


def _on_head(x, z):
    """Places along the head's nose and up out of its forehead."""
    x, z = x - JOWL[0], z - JOWL[1]
    return x * AHEAD[0] + z * AHEAD[1], x * UP[0] + z * UP[1]


def _mane_line(x, z):
    """Place along the mane's middle line, and how far outwards of it; arrays as x."""
    best, along, out, walked = np.full_like(x, 9), np.zeros_like(x), np.zeros_like(x), 0.0
    for start, end in zip(MANE[:-1], MANE[1:], strict=True):
        dx, dz = end[0] - start[0], end[1] - start[1]
        length = float(np.hypot(dx, dz))
        ax, az = x - start[0], z - start[1]
        at = ((ax * dx + az * dz) / length**2).clip(0, 1)
        away = np.hypot(ax - at * dx, az - at * dz)
        near = away < best
        best = np.where(near, away, best)
        along = np.where(near, walked + at * length, along)
        out = np.where(near, np.where(az * dx - ax * dz < 0, -away, away), out)
        walked += length
    return along, out


def _locks(along, out, y):
    """How deep the mane is carved: grooves between the locks, fine hair on them; as `along`."""
    place = (along - SLANT * out - 0.25 * np.abs(y)) / LOCK
    off = np.abs(place - np.round(place))  # 0 in a groove, 0.5 on a lock's back
    groove = 0.030 * np.exp(-((off / 0.13) ** 2))
    hair = 0.0035 * np.cos(2 * np.pi * 4 * place) * smoothstep((off - 0.1) / 0.1)
    return groove + hair


def _carving(x, y, z):
    """How deep lines are cut into head and neck, world units; also where stain stays in them."""
    along, up = _on_head(x, z)
    arc = np.hypot(along - JAW[0], up - JAW[1])
    lower = smoothstep((0.11 - up) / 0.08) * smoothstep((along + 0.10) / 0.06)
    cheek = 0.022 * np.exp(-(((arc - JAW[2]) / 0.016) ** 2)) * lower
    behind = smoothstep((0.40 - along) / 0.03) * smoothstep((along - 0.20) / 0.04)
    vein = 0.012 * np.exp(-(((up - 0.028 + 0.2 * (along - 0.3)) / 0.014) ** 2)) * behind
    bend = x + 0.055 + 0.35 * (z - 0.05) ** 2  # a line down the neck before the mane
    below = smoothstep((0.28 - z) / 0.12) * smoothstep((z + 0.27) / 0.06)
    neck = 0.012 * np.exp(-((bend / 0.016) ** 2)) * below
    return (cheek + vein + neck) * smoothstep((np.abs(y) - 0.02) / 0.03)


def horse_distance(x, y, z):
    """Distance-like value of head, neck and mane, flawless, without the eyes."""
    side = np.abs(y)
    neck = _limb(x, y, z, NECK[0], NECK[1], 0.95)
    for start, end in zip(NECK[1:], (*NECK[2:], POLL), strict=True):
        neck = smooth_min(neck, _limb(x, y, z, start, end, NECK_FLAT), 0.06)
    neck = smooth_min(neck, _limb(x, y, z, CHEST, (0.03, 0.0, 0.20), 0.85), 0.09)
    along, up = _on_head(x, z)
    head = _limb(along, y, up, (0, 0, HEAD[0]), (HEAD[1], 0, HEAD[2]), HEAD_FLAT)
    jaw = _limb(along, y, up, (JAW[0], JAW[1], JAW[2]), (0.1, -0.02, 0.15), 0.86)
    muzzle = _limb(along, y, up, MUZZLE, (MUZZLE[0] + 0.03, -0.006, 0.10), 0.80)
    chin = _limb(along, y, up, CHIN, (CHIN[0] - 0.1, CHIN[1] + 0.01, 0.06), 0.85)
    head = smooth_min(smooth_min(head, jaw, 0.05), smooth_min(muzzle, chin, 0.025), 0.05)
    forelock = _limb(x, y, z, *FORELOCK, 0.95) + 0.006 * np.cos(2 * np.pi * y / 0.036)
    horse = smooth_min(neck, head, 0.055) + _carving(x, y, z)
    socket = _ellipsoid(along - EYE[0] - 0.004, up - EYE[1], side - EYE[2] - 0.02, SOCKET)
    horse = -smooth_min(-horse, socket, 0.03)
    horse = smooth_min(horse, _lids(along, up, side), 0.016)
    horse = smooth_min(horse, forelock, 0.02)
    on_mane, out = _mane_line(x, z)
    crest = (np.hypot(out / CREST[0], y / CREST[1]) - 1) * 0.105 + _locks(on_mane, out, y)
    horse = smooth_min(horse, crest, 0.018)
    horse = smooth_min(horse, _ears(x, side, z), 0.03)
    start, level, half, deep = MOUTH
    lips = np.abs(up - level - (along - 0.43) ** 2) - half
    mouth = both(lips, start - along, -deep - horse)
    horse = -smooth_min(-horse, mouth, 0.012)
    horse = -smooth_min(-horse, _nostril(along, up, side), 0.012)
    return np.maximum(horse, -0.33 - z)


def _lids(along, up, side):
    """Distance-like value of the wood about the eyes."""
    a, b, c = along - EYE[0], (up - EYE[1]) * 1.28, side - EYE[2] + 0.004
    return 0.8 * (np.hypot(np.hypot(a, b) - LID[0] + 0.006, c) - LID[1])


def _nostril(along, up, side):
    """Distance-like value of the hole of a nostril."""
    along, up, side = (v - c for v, c in zip((along, up, side), NOSTRIL, strict=True))
    return _ellipsoid(along, up - 0.4 * along, side, NOSTRIL_HALF)


def _ears(x, side, z):
    """Distance-like value of the ears, hollow ahead."""
    (x0, y0, z0, thick), (x1, y1, z1, thin) = EAR
    at = ((z - z0) / (z1 - z0)).clip(0, 1)
    wide = thick + (thin - thick) * at**2
    ahead, aside = x - x0 - (x1 - x0) * at, side - y0 - (y1 - y0) * at
    above = (z - z0 - (z1 - z0) * at) * 0.9
    ear = np.sqrt(ahead**2 + (aside / 0.72) ** 2 + above**2) - wide
    a = (ahead - 0.8 * wide) * 0.95 + 0.3 * (aside - 0.2 * wide)
    hollow = np.sqrt(a**2 + (aside / 0.72) ** 2 + (1.4 * above) ** 2) - 0.62 * wide
    hollow = np.maximum(hollow, z0 + 0.055 - z)
    return 0.8 * -smooth_min(-ear, hollow, 0.010)


def eyes_distance(x, y, z):
    """Distance-like value of the inlaid eyes."""
    along, up = _on_head(x, z)
    away = [v - c for v, c in zip((along, up, np.abs(y)), EYE, strict=True)]
    return _ellipsoid(*away, EYE_HALF)


def carved_hollows(points):
    """Where stain stays in what was carved, 0 to about 1, [N]."""
    x, y, z = points.T
    deep = np.zeros(len(points))
    high = z > -0.28
    on_mane, out = _mane_line(x[high], z[high])
    crest = np.hypot(out / CREST[0], y[high] / CREST[1])
    locks = (_locks(on_mane, out, y[high]) / 0.030) * smoothstep((crest - 0.5) / 0.2)
    locks = locks * smoothstep((1.12 - crest) / 0.1)
    deep[high] = np.maximum(0.9 * locks, _carving(x[high], y[high], z[high]) / 0.022)
    along, up = _on_head(x, z)
    start, level, half, _ = MOUTH
    near = np.abs(up - level - (along - 0.43) ** 2) < half + 0.004
    deep = np.maximum(deep, 0.8 * near * (along > start))
    deep = np.maximum(deep, 0.9 * (_nostril(along, up, np.abs(y)) < 0.003))
    (x0, y0, z0, thick), (x1, y1, z1, _) = EAR
    at = ((z - z0) / (z1 - z0)).clip(0, 1)
    ahead, aside = x - x0 - (x1 - x0) * at, np.abs(y) - y0 - (y1 - y0) * at
    ahead = smoothstep((0.5 * thick - np.abs(ahead - 0.6 * thick * (1 - at**2))) / 0.02)
    ear = ahead * smoothstep((0.5 * thick * (1.05 - at**2) - np.abs(aside)) / 0.02)
    return np.maximum(deep, 0.75 * ear * (z > z0 + 0.075))
