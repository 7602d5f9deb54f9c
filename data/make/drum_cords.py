"""What is strung about the toy drum: cords in a zigzag, hooks on the hoops, leather sliders."""

import numpy as np

from .mesh import both, box

SHELL = 0.655  # radius of the tin
HOOP = (0.695, 0.040, 0.445, 0.075)  # radius and half thickness, z and half height
CORNERS, CORD = 8, (0.695, 0.38, 0.018)  # of the zigzag; radius it runs at, half height, thickness
HOOK = (0.034, 0.062, 0.395)  # half width, half height, z
SLIDER = (0.078, 0.034, 0.052, -0.235)  # half width, half depth, half height, z
VENT = (2.35, 0.02, 0.048, 0.076)  # azimuth, z, radius of the hole and of its grommet
LOST_CORD, LOST_HOOK, LOST_SLIDER, LOST_GROMMET = range(4)  # what may be missing


def random_loss(rng):
    """Place, normal and sizes of what is missing: a stretch of cord, a hook, slider, grommet."""
    form = int(rng.choice(4, p=(0.4, 0.25, 0.25, 0.1)))
    step, which, sizes = 2 * np.pi / CORNERS, int(rng.integers(CORNERS)), {"form": form}
    if form == LOST_CORD:  # from one height to another between two corners
        low = rng.uniform(-0.24, 0.02)
        sizes |= {"low": low, "high": low + rng.uniform(0.14, 0.34), "leg": rng.integers(16)}
        height = low + (sizes["high"] - low) / 2
        turn = (1 - height / CORD[1]) / 4
        turn = sizes["leg"] // 2 + (turn if sizes["leg"] % 2 == 0 else 1 - turn)
        azimuth = turn * step
    elif form == LOST_HOOK:
        sizes["side"] = rng.choice([-1, 1])
        azimuth, height = (which + 0.5 * (sizes["side"] < 0)) * step, sizes["side"] * HOOK[2]
    elif form == LOST_SLIDER:
        azimuth, height = (which + 0.5) * step, SLIDER[3]
    else:
        azimuth, height = VENT[:2]
    out = on_wall(azimuth, 1, 0)
    sizes["azimuth"] = azimuth
    return on_wall(azimuth, CORD[0], height), out + [0, 0, rng.uniform(-0.3, 0.3)], sizes


def on_wall(azimuth, radius, z):
    """Point at an azimuth, a radius and a height, [3]."""
    return np.array([radius * np.cos(azimuth), radius * np.sin(azimuth), z])


def turned_from(azimuth, start):
    """Azimuth from another, -pi..pi."""
    return (azimuth - start + np.pi) % (2 * np.pi) - np.pi


def strung(reach, azimuth, z, defect):
    """Distance-like values of cords, hooks and sliders."""
    lost = int(defect["form"]) if defect and defect["kind"] == "missing" else None
    upper = (azimuth * CORNERS / (2 * np.pi) + 0.5) % 1 - 0.5  # from the nearest upper corner
    lower = (upper + 1) % 1 - 0.5
    width = 2 * np.pi / CORNERS * SHELL
    run, tall, thin = CORD
    steep = 4 * tall / width
    aside = (z - tall * (1 - 4 * np.abs(upper))) / np.hypot(1, steep)
    cords = both(np.hypot(aside, reach - run - 0.02) - thin, np.abs(z) - tall)
    hooks = box(
        upper * width, reach - HOOP[0] - 0.022, z - HOOK[2], (HOOK[0], 0.042, HOOK[1]), 0.015
    )
    below = box(
        lower * width, reach - HOOP[0] - 0.022, z + HOOK[2], (HOOK[0], 0.042, HOOK[1]), 0.015
    )
    hooks = np.minimum(hooks, below)
    wide, deep, high, at = SLIDER
    narrow = lower * width * (1 + 1.5 * (at - z))
    sliders = box(narrow, reach - run - 0.02, z - at, (wide, deep, high), 0.02)
    turn = turned_from(azimuth, defect["azimuth"] if lost is not None else 0)
    here = np.abs(turn) < np.pi / CORNERS
    if lost == LOST_CORD:
        leg = np.floor(azimuth * CORNERS / np.pi) % 16 == defect["leg"]
        rough = 0.008 * np.sin(211 * aside + defect["seed"] % 7)
        stretch = both(defect["low"] - z + rough, z - defect["high"] - rough)
        cords = np.where(leg, np.maximum(cords, -stretch), cords)
    if lost == LOST_HOOK:
        hooks = np.where(here & (z * defect["side"] > 0), 9, hooks)
    if lost == LOST_SLIDER:
        sliders = np.where(here, 9, sliders)
    return cords, hooks, sliders
