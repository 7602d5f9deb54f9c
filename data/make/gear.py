"""A steel gear: machined teeth and hub, an enamelled web with holes, a keyway; its defects.

It turns about z. Each tooth and each hole looks like the next: only a keyway, a set screw, prints
on the web, numbers stamped into the rim and one painted tooth tell where it is turned to.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .lights import smoothstep
from .marks import described, picked, scratched
from .mesh import Mesh, both, box, cylinder, mesh_from_distance, smooth_min
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = dict(missing=0.0015, burr=0.0015, crack=0.0011, stain=0.007, scratch=0.0012)
LOW, HIGH, STEP = np.array([-0.98, -0.98, -0.36]), np.array([0.98, 0.98, 0.42]), 0.008
NUM_TEETH, NUM_HOLES = 24, 5
TIP, ROOT, RIM, HUB, BORE = 0.95, 0.79, 0.66, 0.31, 0.15  # radii
HALF_RIM, HALF_WEB = 0.19, 0.075  # half widths along z
HUB_END = {1: 0.34, -1: -0.23}  # z of its front and back
HOLES, HOLE = 0.485, 0.115  # radii of the circle they lie on and of each
KEYWAY = (0.06, 0.045)  # depth beyond the bore, half width
SCREW = (2.5, 0.265, 0.036)  # azimuth, z and radius of the set screw's hole
TIMING = 7  # the painted tooth
PX = 400  # of the prints, per world unit
STEEL, ENAMEL, BROKEN = (0.54, 0.55, 0.56), (0.085, 0.15, 0.13), (0.27, 0.26, 0.25)
BURR, SCORE, BARE = (0.68, 0.68, 0.67), (0.05, 0.05, 0.05), (0.60, 0.60, 0.59)
SOOT, YELLOW = (0.02, 0.02, 0.02), (0.75, 0.48, 0.02)
RUST, DARK_RUST, OIL = (0.30, 0.09, 0.02), (0.07, 0.028, 0.015), (0.028, 0.018, 0.01)
INKS = np.array([(0.72, 0.71, 0.67), (0.09, 0.09, 0.09)])  # printed, stamped
# side, azimuth, radius, letters' height in px, ink, text
TEXTS = (
    (1, np.pi / 5, 0.485, 46, 1, "Z24"),
    (1, 7 * np.pi / 5, 0.485, 46, 1, "m2.5"),
    (1, 5.4, 0.725, 34, 2, "0417-B"),
    (-1, np.pi, 0.485, 46, 1, "ARX"),
    (-1, 0.9, 0.725, 34, 2, "C45 24"),
)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, burr, crack, stain, scratch)."""
    side, azimuth = int(rng.choice([-1, 1])), rng.uniform(-np.pi, np.pi)
    tooth = 2 * np.pi * rng.integers(NUM_TEETH) / NUM_TEETH
    reach, lean = rng.uniform(0.19, 0.79), 0.4  # of the normal, outwards
    if kind in ("stain", "scratch") and HUB < reach < RIM:  # between two holes
        pitch = 2 * np.pi / NUM_HOLES
        azimuth = pitch * (rng.integers(NUM_HOLES) + rng.uniform(0.28, 0.72))
    height = face_height(reach, side)
    if kind == "missing":  # a tooth, its tip or one of its ends
        azimuth, reach, height, lean = tooth, (ROOT + TIP) / 2, 0.0, 1.2
        sizes = {"azimuth": azimuth, "side": side, "left": rng.uniform(0.0, 0.03), "from": -1}
        part = rng.integers(3)
        if part == 1:
            sizes["left"] = rng.uniform(0.06, 0.09)
        elif part == 2:
            sizes["from"] = rng.uniform(-0.07, 0.05)
            height = side * (HALF_RIM + sizes["from"]) / 2
    elif kind == "burr":  # on a tooth's flank or on the edge of the hub
        on_hub = rng.random() < 0.25
        reach = HUB - 0.01 if on_hub else rng.uniform(0.85, 0.91)
        azimuth = azimuth if on_hub else tooth + rng.choice([-1, 1]) * 0.05
        height, lean = HUB_END[side] if on_hub else side * HALF_RIM, 1.0
        sizes = {"azimuth": azimuth, "side": side, "on_hub": on_hub}
        sizes |= {"length": rng.uniform(0.08, 0.12), "height": rng.uniform(0.08, 0.11)}
        sizes["lean"] = rng.choice([-1, 1]) * rng.uniform(0.5, 0.9)
    elif kind == "crack":  # from the bottom between two teeth inwards, or from the bore outwards
        inwards = rng.random() < 0.6
        azimuth = tooth + np.pi / NUM_TEETH if inwards else azimuth
        start = ROOT + 0.01 if inwards else BORE
        sizes = {"azimuth": azimuth, "start": start, "width": rng.uniform(0.013, 0.018)}
        sizes["end"] = rng.uniform(0.38, 0.46) if inwards else rng.uniform(0.48, 0.60)
        sizes["slant"] = rng.uniform(-0.25, 0.25)
        reach, lean = (sizes["start"] + sizes["end"]) / 2, 0.1
        azimuth, height = azimuth + sizes["slant"] / 2, face_height(reach, side)
    elif kind == "stain":  # rust or oil
        sizes = {"oil": rng.random() < 0.4, "radius": rng.uniform(0.16, 0.22)}
        if rng.random() < 0.25:  # on the teeth
            azimuth, reach, height, lean = tooth, TIP, rng.uniform(-0.1, 0.1), 1.5
    elif kind == "scratch":  # of a face, on the side that is seen
        sizes = {"length": rng.uniform(0.18, 0.32), "width": rng.uniform(0.013, 0.018)}
        sizes["angle"], lean = rng.uniform(0, np.pi), 0.0
    else:
        raise ValueError(f"the gear has no defect {kind!r}")
    outwards = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    centre, normal = reach * outwards + [0, 0, height], lean * outwards + [0, 0, side]
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def face_height(reach: float, side: int) -> float:
    """z of the front (1) or the back (-1) at a distance from the axis, fillets left out."""
    if reach < HUB:
        return HUB_END[side]
    return side * (HALF_WEB if reach < RIM else HALF_RIM)


def _fold(azimuth, count):
    """Angle to the nearest of `count` spokes, the first of which lies at 0; rad."""
    pitch = 2 * np.pi / count
    return azimuth - pitch * np.round(azimuth / pitch)


def _teeth(reach, azimuth):
    """Distance-like value of an endless toothed bar."""
    above = reach - ROOT
    flank = np.abs(_fold(azimuth, NUM_TEETH)) * reach - 0.077 + 0.22 * above + 0.5 * above**2
    return smooth_min(both(0.93 * flank, reach - TIP), above, 0.03)


def _web_holes(reach, azimuth):
    turn = _fold(azimuth, NUM_HOLES)
    return cylinder(reach * np.cos(turn) - HOLES, reach * np.sin(turn), HOLE)


def _screw_hole(x, y, z):
    azimuth, height, radius = SCREW
    across = y * np.cos(azimuth) - x * np.sin(azimuth)
    outwards = x * np.cos(azimuth) + y * np.sin(azimuth)
    return both(cylinder(across, z - height, radius), HUB - 0.09 - outwards)


def distance(x, y, z, defect: dict | None = None):
    """Distance-like value of the solid, negative inside; arrays of one shape, world units."""
    kind = defect["kind"] if defect else None
    reach, azimuth = np.sqrt(x * x + y * y), np.arctan2(y, x)
    solid = -smooth_min(-_teeth(reach, azimuth), HALF_RIM - np.abs(z), 0.02)
    pocket = both(reach - RIM, HUB - 0.05 - reach, HALF_WEB - np.abs(z))
    solid = -smooth_min(-solid, pocket, 0.03)
    hub = -smooth_min(HUB - reach, -both(z - HUB_END[1], HUB_END[-1] - z), 0.02)
    solid = smooth_min(solid, hub, 0.035)
    solid = -smooth_min(-solid, _web_holes(reach, azimuth), 0.015)
    bore = np.minimum(reach - BORE, box(x - BORE, y, 0 * z, (*KEYWAY, 9.0)))
    solid = both(solid, -bore, -_screw_hole(x, y, z))
    if kind == "missing":
        solid = np.maximum(solid, -_broken_off(x, y, z, reach, azimuth, defect))
    if kind == "burr":
        solid = smooth_min(solid, _sliver(x, y, z, defect), 0.008)
    return solid


def _broken_off(x, y, z, reach, azimuth, defect):
    """Distance-like value of what is missing of a tooth: beyond a radius and on one side."""
    turn = (azimuth - defect["azimuth"] + np.pi) % (2 * np.pi) - np.pi
    near = (np.abs(turn) * reach < 0.15) & (reach > ROOT - 0.05)
    rough = np.zeros(near.shape, np.float32)
    places = np.stack([v[near] for v in (x, y, z)], 1)
    rough[near] = 0.009 * fractal_noise_3d(places, 11, defect["seed"], 3)
    return both(
        np.abs(turn) * reach - 0.12,
        ROOT + defect["left"] + rough - reach,
        defect["from"] + rough - 0.3 * (reach - ROOT) - defect["side"] * z,
    )


def _sliver(x, y, z, defect):
    """Distance-like value of a burr: a thin ragged flake on edge, that leans over."""
    outwards = np.array([np.cos(defect["azimuth"]), np.sin(defect["azimuth"]), 0])
    line, across = outwards, np.array([-outwards[1], outwards[0], 0])
    if defect["on_hub"]:
        line, across = across, outwards
    cos, sin = np.cos(defect["lean"]), np.sin(defect["lean"])
    up = cos * np.array([0, 0, defect["side"]]) + sin * across
    thin = -sin * np.array([0, 0, defect["side"]]) + cos * across
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    along, above, off = np.tensordot(np.stack([line, up, thin]), np.stack(away), 1)
    phase = defect["seed"] % 7
    ragged = 0.15 * np.sin(47 * along + phase) + 0.10 * np.sin(113 * along + 2 * phase)
    curl = off - 2.5 * np.maximum(above, 0) ** 2
    bulge = (along / defect["length"]) ** 2 + (above / defect["height"] / (0.8 + ragged)) ** 2
    return both(0.024 * (np.sqrt(bulge + (curl / 0.024) ** 2) - 1), -0.02 - above)


def mesh(defect: dict | None = None) -> Mesh:
    """The gear's surface with colour, metallic and roughness per vertex."""
    solid = mesh_from_distance(lambda x, y, z: distance(x, y, z, defect), LOW, HIGH, STEP)
    points = solid.vertices
    x, y, z = points.T
    reach, azimuth = np.hypot(x, y), np.arctan2(y, x)
    turned = fractal_noise_3d(np.stack([45 * reach, 3 * azimuth, 30 * z], 1), 1.0, 1, 3)
    mottle = fractal_noise_3d(points, 6, 2, 4)
    look = np.tile([*STEEL, 1.0, 0.28], (len(points), 1))  # colour, metallic, roughness
    look[:, :3] *= (1 + 0.05 * turned + 0.04 * mottle)[:, None]
    look[:, 4] += 0.03 * turned + 0.02 * mottle
    paint = (reach > HUB + 0.012) & (reach < RIM + 0.006) & (np.abs(z) < HALF_RIM - 0.012)
    paint &= _web_holes(reach, azimuth) > 0.008
    look[paint, :3] = ENAMEL * (1 + 0.05 * mottle[paint, None])
    look[paint, 3:] = (0, 0.35)
    for side in (-1, 1):
        ink = _print_at(x * side, y, side)
        ink[side * z < HALF_WEB - 0.02] = 0
        ink[~paint & (ink == 1)] = 0
        ink[(ink == 2) & (np.abs(z) < HALF_RIM - 0.02)] = 0
        look[ink > 0, :3], look[ink > 0, 3:] = INKS[ink[ink > 0] - 1], (0.1, 0.5)
    turn = (azimuth - 2 * np.pi * TIMING / NUM_TEETH + np.pi) % (2 * np.pi) - np.pi
    dab = np.abs(turn) * reach + 0.004 * mottle < 0.055
    look[dab & (reach > 0.69) & (z > HALF_RIM - 0.05)] = (*YELLOW, 0, 0.4)
    look[_screw_hole(x, y, z) < 0.004] = (*SOOT, 0.3, 0.6)
    if defect:
        _spoil(look, points, paint, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, paint, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `paint` tells the enamelled points."""
    kind, (x, y, z) = defect["kind"], points.T
    away = np.linalg.norm(points - np.array(defect["centre"]), axis=1)
    if kind in ("missing", "burr"):
        made = (away < 0.28) & (np.abs(distance(x, y, z)) > 0.006)
        look[made] = (*BROKEN, 0.5, 0.7) if kind == "missing" else (*BURR, 1, 0.35)
        if kind == "missing":
            look[made, :3] *= 1 + 0.2 * fractal_noise_3d(points[made], 30, 5, 3)[:, None]
    if kind == "crack":
        look[_cracked(points, defect)] = (*SOOT, 0, 0.8)
    if kind == "scratch":
        groove = scratched(points, defect, reach=0.03)
        look[groove] = (*SCORE, 0, 0.7)
        look[groove & paint] = (*BARE, 0.3, 0.5)
    if kind == "stain":
        frequency, edge = (6, 0.25) if defect["oil"] else (10, 0.4)
        spread = edge * fractal_noise_3d(points, frequency, defect["seed"], 4)
        soft = 0.12 if defect["oil"] else 0.1
        cover = 0.95 * smoothstep((1 - away / defect["radius"] - spread) / soft)[:, None]
        share = smoothstep(0.5 + 0.7 * fractal_noise_3d(points, 14, defect["seed"] + 1, 4))[:, None]
        spot = np.array(RUST) * share + np.array(DARK_RUST) * (1 - share)
        spot = np.hstack([spot, 0 * share, 0 * share + 0.9])
        if defect["oil"]:
            spot[:] = (*OIL, 0, 0.12)
        look[:] = look * (1 - cover) + spot * cover


def _cracked(points, defect) -> np.ndarray:
    """Which of the points [N, 3] lie in a crack that goes right through, [N] bool."""
    reach, azimuth = np.hypot(points[:, 0], points[:, 1]), np.arctan2(points[:, 1], points[:, 0])
    gone = (reach - defect["start"]) / (defect["end"] - defect["start"])  # 0 to 1 along it
    path = defect["azimuth"] + defect["slant"] * gone.clip(0, 1)
    turn = (azimuth - path + np.pi) % (2 * np.pi) - np.pi
    wander = 0.02 * fractal_noise_3d(np.outer(reach, [1.0, 0, 0]), 12, defect["seed"], 3)
    wander *= smoothstep(gone / 0.2)
    width = defect["width"] * np.clip(1 - gone, 0, 1) ** 0.4
    return (np.abs(turn * reach + wander) < width) & (gone > -0.1) & (np.abs(turn) < 1)


def _print_at(across, y, side):
    """Ink at points of a side, `across` to the right as it is seen: 0 or 1 + index in INKS."""
    return picked(_print_image(side), (across + 1) * PX, (1 - y) * PX)


@cache
def _print_image(side: int) -> np.ndarray:
    """What is printed on and stamped into the front (1) or the back (-1), [rows, columns]."""
    image = Image.new("L", (2 * PX, 2 * PX), 0)
    for face, azimuth, radius, height, ink, text in TEXTS:
        if face == side:
            word = Image.new("L", image.size, 0)
            place, font = (PX, PX - radius * PX), ImageFont.load_default(size=height)
            ImageDraw.Draw(word).text(place, text, 255, font, anchor="mm")
            word = word.rotate(np.degrees(azimuth) - 90, Image.Resampling.BICUBIC)
            image.paste(ink, mask=word.point(lambda value: 255 * (value > 127)))
    return np.asarray(image, int)
