"""A screw clamp: a cast frame in hammered paint, a threaded spindle, pad, handle; its defects.

The frame lies in the xz plane with its mouth towards x, the spindle runs along z. Raised lettering
that differs tells front (-y) and back (y) apart; the handle stands askew and pushed to one end.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .lights import smoothstep
from .marks import described, first_met, ink_distance, marked_face, solid_with_parts, union
from .mesh import Mesh, both, box, cylinder, rod, smooth_min, thread_depth, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0012, "bent": 0.003, "chip": 0.0012, "crack": 0.0009}
SMALLEST_MASK |= {"corrosion": 0.0015}
LOW, HIGH, STEP = np.array([-0.74, -0.52, -0.92]), np.array([0.64, 0.52, 1.03]), 0.0075
OUTER, OUTER_CORNER = (-0.20, 0.48, 0.68), 0.22  # of the frame: middle x, half sizes, corners
MOUTH, MOUTH_CORNER = (-0.36, 0.42), 0.14  # from x, half height, corners
MIDDLE, BOW, SPREAD = -0.20, 0.09, 0.10  # z of the frame's; curve of its back; arms get thinner
FLANGE, WEB, EDGE = 0.10, 0.045, 0.055  # half thicknesses; how wide the flange is
RAISED = 0.024  # height of the letters
AXIS = 0.26  # x of the spindle
BOSS = (0.15, 0.20, 0.51)  # radius, from and to z; the spindle turns in it
ANVIL = (0.14, -0.66, -0.52)  # radius, from and to z
THREAD, PITCH, DEPTH = 0.080, 0.062, 0.022  # outer radius
THREADED = (-0.13, 0.74)  # from and to z
NECK, BALL = (0.045, -0.20), 0.058  # radius and end of the spindle's tip; radius of its ball
COLLAR, PAD, TILT = (0.09, -0.23, -0.145), (0.145, -0.30, -0.23), 0.07  # radii, from and to z; rad
HUB = (0.10, 0.75, 0.985)  # radius, from and to z
BAR, BAR_HEIGHT, BAR_TURN = 0.036, 0.87, 1.0  # of the handle: radius, z, azimuth in rad
BAR_ENDS = (-0.37, 0.45)  # along the handle, where the knobs sit
KNOB, PEG = (0.066, 0.05), 0.023  # radius, half length; radius of the bar within the knob
BENDS = (0.14, 0.11), (0.30, -0.10)  # of handle and spindle: radius of the bend, where it begins
FRONT, BACK = -1, 1
PX = 400  # of the lettering, per world unit
LETTERS = (-0.515, 0.16, 0.40)  # middle x; half height and half length of what is lettered
TEXTS = {FRONT: ("ARX 75", 84), BACK: ("FORGED", 76)}  # and the letters' height in px
GREEN, CREAM, IRON = (0.022, 0.150, 0.085), (0.66, 0.62, 0.48), (0.40, 0.39, 0.375)
BLACKENED, WORN, GREASE = (0.17, 0.165, 0.16), (0.44, 0.43, 0.42), (0.045, 0.04, 0.035)
ZINC, STEEL, PRIMER = (0.58, 0.59, 0.60), (0.50, 0.495, 0.485), (0.27, 0.085, 0.05)
RUST, DARK_RUST, SOOT = (0.26, 0.085, 0.022), (0.085, 0.032, 0.015), (0.012, 0.011, 0.010)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*GREEN, 0.25, 0.28), (*IRON, 1, 0.36), (*BLACKENED, 0.9, 0.38), (*STEEL, 1, 0.33)]
    + [(*ZINC, 1, 0.24), (*ZINC, 1, 0.20)]
)
FRAME, JAW, SPINDLE, SWIVEL, HANDLE, KNOBS = range(6)
LOST_PAD = 2  # of what can be missing; 0 and 1 are the knobs


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, bent, chip, crack, corrosion)."""
    along = np.array([np.cos(BAR_TURN), np.sin(BAR_TURN), 0])
    if kind == "missing":  # a knob of the handle, the pad
        part = int(rng.integers(3))
        if part == LOST_PAD:
            turn = rng.uniform(-np.pi, np.pi)
            centre, normal = (AXIS, 0, PAD[1]), (np.cos(turn) + 0.3, np.sin(turn), -0.3)
        else:
            centre = BAR_ENDS[part] * along + [AXIS, 0, BAR_HEIGHT]
            normal = 0.7 * np.sign(BAR_ENDS[part]) * along + [0, 0, rng.uniform(-0.3, 0.9)]
        sizes = {"part": part}
    elif kind == "bent":  # one half of the handle, the spindle below the boss
        sizes = {"towards": rng.uniform(-np.pi, np.pi), "side": rng.choice([-1, 1])}
        cos, sin = np.cos(sizes["towards"]), np.sin(sizes["towards"])
        sizes["spindle"] = rng.random() < 0.5
        if sizes["spindle"]:
            sizes["angle"] = rng.uniform(0.15, 0.27)
            centre, normal = (AXIS, 0, -0.1), sizes["side"] * np.array([-sin, cos, 0])
        else:
            sizes["angle"] = rng.uniform(0.24, 0.50)
            centre = sizes["side"] * 0.26 * along + [AXIS, 0, BAR_HEIGHT]
            normal = -sin * np.array([-along[1], along[0], 0]) + [0, 0, cos]
            normal = normal * np.sign(normal[2] or 1)
    elif kind == "chip":
        centre, normal = _painted_place(rng)
        sizes = {"radius": rng.uniform(0.055, 0.10)}
    elif kind == "crack":  # from the inner edge or the outer one into the frame
        centre, inwards = _edge_place(rng)
        side = rng.choice([FRONT, BACK])
        normal = np.array([-0.5 * inwards[0], side, -0.5 * inwards[1]])
        slant = rng.uniform(-0.35, 0.35)
        sizes = {"angle": np.arctan2(inwards[1], inwards[0]) + slant}
        sizes |= {"length": rng.uniform(0.17, 0.27), "width": rng.uniform(0.008, 0.012)}
        centre = (centre[0], side * FLANGE, centre[1])
    elif kind == "corrosion":  # of the spindle, below the boss or above it
        height = rng.uniform(-0.10, 0.12) if rng.random() < 0.6 else rng.uniform(0.58, 0.70)
        turn = rng.uniform(-2.2, 2.2)  # not behind the frame's back
        normal = (np.cos(turn), np.sin(turn), 0)
        centre = (AXIS + THREAD * normal[0], THREAD * normal[1], height)
        sizes = {"radius": rng.uniform(0.10, 0.18)}
    else:
        raise ValueError(f"the clamp has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _painted_place(rng):
    """A point of the painted frame and its normal, each [3]."""
    while True:
        axis = rng.choice(3, p=(0.25, 0.6, 0.15))
        way = np.tile(rng.uniform((-0.66, -0.08, -0.86), (0.38, 0.08, 0.46)), (901, 1))
        way[:, axis] = np.linspace(1, -1, 901) * rng.choice([-1, 1])
        met = first_met(way, parts, distance)
        if met is not None and met[0] == FRAME:
            return met[1:]


def _edge_place(rng):
    """A point (x, z) of the frame's outline beside boss and anvil, and the way into it; [2]."""
    turn = rng.uniform(np.radians(95), np.radians(265))
    outwards = np.array([np.cos(turn), np.sin(turn)])
    way = np.array([0.0, MIDDLE]) + np.linspace(0, 1, 1001)[:, None] * outwards
    inside = np.nonzero(_outline(*way.T) < 0)[0]
    if rng.random() < 0.7:
        return way[inside[0]], outwards
    return way[inside[-1]], -outwards


def _outline(x, z):
    """Distance-like value of the frame as seen from the side."""
    z = z - MIDDLE
    back = x - BOW * (z / OUTER[2]) ** 2
    outer = box(back - OUTER[0], 0 * x, z, (OUTER[1], 1, OUTER[2]), OUTER_CORNER)
    spread = z / (1 + SPREAD * np.maximum(x - MOUTH[0], -0.5))
    mouth = box(x - MOUTH[0] - 1, 0 * x, spread, (1, 1, MOUTH[1]), MOUTH_CORNER)
    return np.maximum(outer, -mouth)


def _frame(x, y, z, defect):
    """Distance-like value of the frame: a web within a flange, letters on it, the boss."""
    outline, off = _outline(x, z), np.abs(y)
    pocket = -smooth_min(-(outline + EDGE), off - WEB, 0.03)
    solid = -smooth_min(-outline, FLANGE - off, 0.035)
    solid = -smooth_min(-solid, pocket, 0.02)
    letters = _letters(x, y, z)
    solid = np.minimum(solid, both(letters, off - WEB - RAISED, outline))
    radius, bottom, top = BOSS
    reach = cylinder(x - AXIS, y, radius)
    boss = -smooth_min(-reach, -np.abs(z - (bottom + top) / 2) + (top - bottom) / 2, 0.03)
    solid = smooth_min(solid, boss, 0.06)
    solid = smooth_min(solid, both(reach + 0.005, z - ANVIL[2] + 0.05, ANVIL[1] - 0.05 - z), 0.06)
    sunk = both(np.minimum(z - bottom, top - z) - 0.03, bottom - 0.1 - z)  # at the boss's ends
    solid = np.maximum(solid, -both(cylinder(x - AXIS, y, THREAD + 0.02), sunk))
    if defect and defect["kind"] == "chip":
        solid = solid + 0.006 * smoothstep((1 - _chipped(x, y, z, defect)) / 0.15)
    if defect and defect["kind"] == "crack":
        solid = np.maximum(solid, -both(_cracked(x, z, defect), -solid - 0.02))
    return solid


def _letters(x, y, z):
    """Distance-like value of the lettering, as high as space."""
    middle, half, long = LETTERS
    value = np.full_like(x, 1)
    for side in TEXTS:
        facing = side * y > 0
        right, down = z[facing] - MIDDLE, -side * (x[facing] - middle)  # they run upwards
        value[facing] = marked_face(_letter_image(side), right, down, (long, half), PX)
    return value


@cache
def _letter_image(side: int) -> np.ndarray:
    """Distance to the letters of a side in world units, negative within, [rows, columns]."""
    _, half, long = LETTERS
    text, height = TEXTS[side]
    image = Image.new("L", (round(2 * long * PX), round(2 * half * PX)), 0)
    place, font = (long * PX, half * PX), ImageFont.load_default(size=height)
    ImageDraw.Draw(image).text(place, text, 255, font, anchor="mm", stroke_width=1)
    return ink_distance(image, PX)


def _chipped(x, y, z, defect):
    """How far from a chip's middle, 1 at its ragged edge; as x."""
    away = np.stack([v - c for v, c in zip((x, y, z), defect["centre"], strict=True)], -1)
    reach = np.linalg.norm(away, axis=-1) / defect["radius"]
    reach = np.where(away @ defect_normal(defect) > -0.045, reach, 9)
    near = reach < 2
    points = np.stack([v[near] for v in (x, y, z)], 1)
    reach[near] += 0.30 * fractal_noise_3d(points, 14, defect["seed"], 4)
    return reach


def _cracked(x, z, defect):
    """Distance-like value of a crack that goes right through the frame."""
    cos, sin = np.cos(defect["angle"]), np.sin(defect["angle"])
    away, beside = x - defect["centre"][0], z - defect["centre"][2]
    along, across = cos * away + sin * beside, cos * beside - sin * away
    gone, phase = along / defect["length"], defect["seed"] % 97
    wander = 0.016 * np.sin(27 * along + phase) + 0.010 * np.sin(71 * along + 2 * phase)
    wander = wander + 0.005 * np.sin(173 * along + 3 * phase)
    width = defect["width"] * np.clip(1 - gone, 0, 1) ** 0.5
    return both(np.abs(across + wander) - width, along - defect["length"], -0.06 - along)


def _unbent(along, across, bend, angle):
    """Places along a bar and across it, as if it had not been bent across by `angle` rad.

    Args:
        bend: radius of the bend, and where along the bar it begins.
    """
    radius, start = bend
    ahead, within = along - start, radius - across
    turn = np.arctan2(ahead, within)
    cos, sin = np.cos(angle), np.sin(angle)
    past, aside = ahead - radius * sin, across - radius * (1 - cos)
    straight = start + radius * angle + cos * past + sin * aside, cos * aside - sin * past
    arc = start + radius * turn, radius - np.hypot(ahead, within)
    return tuple(
        np.where(ahead <= 0, before, np.where(turn < angle, curved, beyond))
        for before, curved, beyond in zip((along, across), arc, straight, strict=True)
    )


def _on_spindle(x, y, z, defect):
    """x and y from the spindle's axis, and z, as if it had not been bent."""
    x = x - AXIS
    if not defect or defect["kind"] != "bent" or not defect["spindle"]:
        return x, y, z
    cos, sin = np.cos(defect["towards"]), np.sin(defect["towards"])
    across, aside = cos * x + sin * y, cos * y - sin * x
    down, across = _unbent(-z, across, BENDS[1], defect["angle"])
    return cos * across - sin * aside, sin * across + cos * aside, -down


def _on_handle(x, y, z, defect):
    """Places along the handle and across it, level and up, as if it had not been bent."""
    x, up = x - AXIS, z - BAR_HEIGHT
    along = np.cos(BAR_TURN) * x + np.sin(BAR_TURN) * y
    level = np.cos(BAR_TURN) * y - np.sin(BAR_TURN) * x
    if not defect or defect["kind"] != "bent" or defect["spindle"]:
        return along, level, up
    cos, sin, side = np.cos(defect["towards"]), np.sin(defect["towards"]), defect["side"]
    across, aside = cos * level + sin * up, cos * up - sin * level
    along, across = _unbent(side * along, across, BENDS[0], defect["angle"])
    return side * along, cos * across - sin * aside, sin * across + cos * aside


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of frame, anvil, spindle, pad, handle and knobs, each as x."""
    lost = int(defect["part"]) if defect and defect["kind"] == "missing" else None
    radius, bottom, top = ANVIL
    rough = 0.5 + 0.5 * np.maximum(np.cos(105 * (x - AXIS + y)), np.cos(105 * (x - AXIS - y)))
    anvil = rod(x - AXIS, y, z, radius, bottom, top, 0.015)
    anvil = anvil + 0.010 * rough**2 * (z > top - 0.03) * (cylinder(x - AXIS, y, radius) < -0.02)
    sx, sy, sz = _on_spindle(x, y, z, defect)
    low, high = THREADED
    taper = np.maximum(np.maximum(low + 0.02 - sz, sz - high + 0.02), 0)
    thread = cylinder(sx, sy, THREAD) + DEPTH * thread_depth(sx, sy, sz, PITCH) + taper
    spindle = both(thread, low - sz, sz - high)
    spindle = np.minimum(spindle, both(cylinder(sx, sy, NECK[0]), NECK[1] - sz, sz))
    spindle = np.minimum(spindle, np.sqrt(sx**2 + sy**2 + (sz - NECK[1]) ** 2) - BALL)
    spindle = smooth_min(spindle, rod(sx, sy, sz, *HUB, 0.05), 0.02)
    cos, sin = np.cos(TILT), np.sin(TILT)
    px, pz = cos * sx + sin * (sz - NECK[1]), cos * (sz - NECK[1]) - sin * sx + NECK[1]
    pad = rod(px, sy, pz, *PAD, 0.025)
    pad = smooth_min(pad, rod(px, sy, pz, *COLLAR, 0.02), 0.02)
    if lost == LOST_PAD:
        pad = np.full_like(x, 9)
    along, level, up = _on_handle(x, y, z, defect)
    knobs, first, last = np.full_like(x, 9), *BAR_ENDS
    inner = np.minimum(along - first, last - along) - KNOB[1]  # from the knobs inwards
    bar = both(cylinder(level, up, BAR), -inner)
    peg = both(cylinder(level, up, PEG), -inner - 1.4 * KNOB[1])
    for k, end in enumerate(BAR_ENDS):
        knob = rod(level, up, along, KNOB[0], end - KNOB[1], end + KNOB[1], 0.05)
        if k != lost:
            knobs = np.minimum(knobs, knob)
    return _frame(x, y, z, defect), anvil, spindle, pad, np.minimum(bar, peg), knobs


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The clamp's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    frame, screw = part == FRAME, part == SPINDLE
    mottle, grain = fractal_noise_3d(points, 5, 2, 4), fractal_noise_3d(points, 60, 3, 2)
    look[:, :3] *= (1 + 0.04 * mottle + 0.03 * grain)[:, None]
    look[:, 4] += 0.025 * mottle + 0.02 * grain
    hammered = np.stack([fractal_noise_3d(points, 21, seed, 2) for seed in (4, 5, 6)], 1)
    look[frame, :3] *= 1 + 0.16 * hammered[frame, :1]
    solid.normals = unit(solid.normals)
    solid.normals[frame] += 0.11 * hammered[frame]
    lettered = frame & (_letters(x, y, z) < 0.004) & (np.abs(y) > WEB + 0.014)
    lettered &= (np.abs(y) < WEB + RAISED + 0.01) & (_outline(x, z) < -EDGE - 0.002)
    worn = fractal_noise_3d(points, 16, 7, 3) > 1.5
    look[lettered & (y < 0) & ~worn] = (*CREAM, 0, 0.45)
    faced = frame & (cylinder(x - AXIS, y, BOSS[0] - 0.012) < 0) & (z > BOSS[2] - 0.006)
    look[faced] = (*IRON, 1, 0.4)
    sx, sy, sz = _on_spindle(x, y, z, defect)
    thread = screw & (sz > THREADED[0]) & (sz < THREADED[1])
    deep = thread_depth(sx, sy, sz, PITCH)[:, None]
    look[thread, :3] = (WORN + deep * (np.array(GREASE) - WORN))[thread]
    look[thread, :3] *= (1 + 0.10 * mottle + 0.05 * grain)[thread, None]
    gap = frame & (cylinder(x - AXIS, y, THREAD + 0.026) < 0) & (z > BOSS[1] - 0.05)
    look[gap & ~faced] = (*SOOT, 0, 0.5)
    if defect:
        _spoil(look, points, part, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, y, z) = defect["kind"], points.T
    if kind == "chip":
        reach, frame = _chipped(x, y, z, defect), part == FRAME
        look[frame & (reach < 1)] = (*PRIMER, 0, 0.6)
        look[frame & (reach < 0.8)] = (*IRON, 0.8, 0.45)
        bare = frame & (reach < 1)
        look[bare, :3] *= 1 + 0.12 * fractal_noise_3d(points[bare], 30, 8, 3)[:, None]
    if kind == "crack":
        split = _cracked(x, z, defect)
        flaked = 0.004 + 0.005 * fractal_noise_3d(points, 20, defect["seed"], 3)
        look[(part == FRAME) & (split < flaked)] = (*DARK_RUST, 0, 0.8)
        look[(part == FRAME) & (split < 0.002)] = (*SOOT, 0, 0.8)
    if kind == "corrosion":
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        edge = away + 0.3 * fractal_noise_3d(points, 10, defect["seed"], 4)
        cover = 0.95 * smoothstep((1 - edge) / 0.2)[:, None] * (part == SPINDLE)[:, None]
        share = smoothstep(0.6 + 0.7 * fractal_noise_3d(points, 18, defect["seed"] + 1, 4))[:, None]
        rot = np.array(RUST) * share + np.array(DARK_RUST) * (1 - share)
        look[:] = look * (1 - cover) + np.hstack([rot, 0 * share, 0 * share + 0.9]) * cover
    if kind == "missing" and defect["part"] != LOST_PAD:
        end = np.array(BAR_ENDS)[int(defect["part"])]
        along, level, up = _on_handle(x, y, z, None)
        peg = (part == HANDLE) & (along * np.sign(end) > abs(end) - KNOB[1] - 0.005)
        look[peg & (cylinder(level, up, BAR - 0.004) < 0)] = (*IRON, 0.9, 0.5)
