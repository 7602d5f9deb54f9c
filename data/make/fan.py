"""A small white table fan: a thin wire cage, pale blue blades, a stand with knobs; their defects.

It blows along -y. The wires in front are swirled; the motor's vents are at the back, the scale of
the control knob is printed on the base, a label below it.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import described, inked_face, open_place, picked, solid_with_parts, union
from .mesh import Mesh, both, box, cylinder, rod, smooth_min
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"bent": 0.0006, "missing": 0.0004, "chip": 0.0005, "misprint": 0.0004}
SMALLEST_MASK |= {"stain": 0.0006}
SIZE = 1.2  # all lengths below are in this many world units
LOW, HIGH = SIZE * np.array([-0.57, -0.30, -0.79]), SIZE * np.array([0.57, 0.56, 0.82])
STEP = 0.0075  # world units, as LOW and HIGH
AXIS, CAGE = 0.255, 0.525  # z of the cage's middle; its radius
EDGE, FRONT, REAR = 0.045, 0.150, 0.095  # |y| of the cage at its hoop; how far it bulges
HOOP, WIRE = (0.017, 0.055), 0.0115  # half sizes; radius
SPOKES, SWIRL, INNER = 22, 1.5, 0.10  # of the front; rad per length; where they start
BARS = 14  # at the back
RINGS = (0.33, 0.43)  # radii of rings of wire, in front; the first at the back too
PLATE = (0.125, 0.016)  # of the front: radius, half thickness
BLADES, TURN, PITCHED = 3, 0.4, 0.42
BLADE = (0.275, 0.195, 0.185, 0.0125)  # radius of its middle; half sizes and thickness
HUB, SHAFT = (0.085, -0.095, 0.06), 0.030
MOTOR = (0.155, 0.125, 0.415, 0.06)  # radius, y from and to, rounding
VENTS, PIVOT = (0.046, 0.011), (0.275, 0.06)  # pitch, half width; y, z of the tilting joint
JOINT, TILT_KNOB, BOLT = (0.062, 0.085), (0.075, 0.155), (0.036, 0.110)  # radii, ends along |x|
COLUMN, LEAN = 0.047, 0.15
BASE, BASE_Y, TOP, BOTTOM = 0.375, 0.10, -0.665, -0.755
KNOB_Y, KNOB, RIBS = -0.10, (0.080, 0.085), 15  # of the control: y, radius and height
SPINDLE = (0.026, 0.035)
FEET = [(0.22 * a, BASE_Y + 0.185 * b) for a in (-1, 1) for b in (-1, 1)]
FOOT = (0.045, 0.020)  # radius, height
CABLE = (0.019, 0.036, -0.712)  # radii of cable and sleeve; z
PX = 640
WHITE, BLUE, COATED = (0.74, 0.738, 0.725), (0.44, 0.60, 0.70), (0.70, 0.70, 0.69)
STEEL, RUBBER, INK, SOOT = (0.58, 0.58, 0.57), (0.16, 0.162, 0.168), (0.17, 0.19, 0.22), (0.03,) * 3
LABEL, BROKEN = (0.60, 0.60, 0.57), (0.80, 0.82, 0.83)
RUST, DARK_RUST = (0.34, 0.13, 0.04), (0.12, 0.05, 0.022)
STAINS = ((0.62, 0.53, 0.30), (0.27, 0.25, 0.22), (0.38, 0.20, 0.10))  # yellowed, dust, coffee
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*WHITE, 0, 0.16), (*COATED, 0, 0.24), (*BLUE, 0, 0.14), (*BLUE, 0, 0.22)]
    + [(*WHITE, 0, 0.12), (*STEEL, 1, 0.22), (*RUBBER, 0, 0.6)]
)
BODY, WIRES, WINGS, KNOBS, BADGE, METAL, SOFT = range(7)
LOST_WIRE, LOST_KNOB, LOST_TIP, LOST_FOOT, LOST_BOLT = range(5)  # what may be missing


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (bent, missing, chip, misprint, stain)."""
    spoke, at = int(rng.integers(SPOKES)), rng.uniform(0.24, 0.42)
    blade, tilted = int(rng.integers(BLADES)), (rng.uniform(-0.4, 0.4), -1, rng.uniform(-0.4, 0.4))
    if kind == "bent":  # a wire, or the cage pressed in
        centre, normal, sizes = _on_spoke(spoke, at), tilted, {"spoke": spoke, "at": at}
        sizes["pressed"] = rng.random() < 0.4
        sizes |= {"aside": rng.choice([-1, 1]) * rng.uniform(0.025, 0.06)}
        sizes |= {"out": rng.uniform(-0.03, 0.05), "half": rng.uniform(0.07, 0.11)}
        sizes |= {"depth": rng.uniform(0.03, 0.07), "radius": rng.uniform(0.12, 0.20)}
    elif kind == "missing":
        part, foot = int(rng.integers(5)), int(rng.integers(4))
        sizes = {"part": part, "spoke": spoke, "at": at, "half": rng.uniform(0.055, 0.12)}
        sizes |= {"blade": blade, "cut": rng.uniform(0.30, 0.40), "slant": rng.uniform(-0.5, 0.5)}
        sizes["foot"] = foot
        centre, normal = [
            (_on_spoke(spoke, at), tilted),
            ((0, KNOB_Y, TOP + KNOB[1]), (rng.uniform(-0.8, 0.8), -0.6, 1)),
            (_on_blade(blade, 0, 0.41), (tilted[0], rng.choice([-1, 1]), tilted[2])),
            ((*FEET[foot], BOTTOM), (0.3, rng.uniform(-0.5, 0.5), -1)),
            ((-BOLT[1], *PIVOT), (-1, rng.uniform(-0.2, 0.8), rng.uniform(-0.4, 0.4))),
        ][part]
    elif kind == "chip":  # of a blade's edge or the base's
        turn, sizes = rng.uniform(-np.pi, np.pi), {"radius": rng.uniform(0.040, 0.075)}
        middle, wide, long, _ = BLADE
        centre = _on_blade(blade, wide * np.cos(turn), middle + long * np.sin(turn))
        normal = (tilted[0], rng.choice([-1, -1, 1]), tilted[2])
        sizes["blade"] = rng.random() < 0.6
        if not sizes["blade"]:
            out = np.array([np.cos(turn), np.sin(turn), 0])
            level = rng.choice([TOP, TOP, BOTTOM])
            centre = np.array([0, BASE_Y, level]) + (BASE - 0.008) * out
            normal = out + [0, 0, 0.8 if level == TOP else -0.8]
    elif kind == "misprint":  # of the scale: moved, smeared, left out
        turn = rng.uniform(-2.3, 2.3)
        centre = 0.14 * np.sin(turn), KNOB_Y + 0.14 * np.cos(turn), TOP
        normal = (rng.uniform(-0.5, 0.5), rng.uniform(-0.9, 0), 1)
        sizes = {"radius": rng.uniform(0.06, 0.11), "smeared": rng.random() < 0.4}
        sizes |= {"across": rng.uniform(0.015, 0.035) * rng.choice([-1, 1])}
        sizes |= {"down": rng.uniform(-0.03, 0.03)}
        if rng.random() < 0.35:
            sizes |= {"across": 2.0, "smeared": False}
    elif kind == "stain":  # rust of wires or bolt; yellowed, dusty, coffee
        sizes = {"rust": rng.random() < 0.4, "sort": rng.integers(len(STAINS))}
        sizes |= {"radius": rng.uniform(0.06, 0.15), "cover": rng.uniform(0.45, 0.95)}
        centre, normal = _open_place(rng, (WIRES,) if sizes["rust"] else (BODY, BODY, WINGS, BADGE))
    else:
        raise ValueError(f"the fan has no defect {kind!r}")
    return described(kind, SIZE * np.array(centre), normal, int(rng.integers(1 << 30)), sizes)


def _open_place(rng, of):
    """A point of one of the parts `of` that shows from a side, and its normal, each [3]."""
    at, normal = open_place(rng, of, parts, distance, (LOW, HIGH), steps=501, facing=0.6)
    return at / SIZE, normal


def _centre(defect):
    return np.array(defect["centre"]) / SIZE


def _on_spoke(spoke, reach):
    """The point [3] of a wire in front at a distance from the axis."""
    turn = 2 * np.pi * spoke / SPOKES + SWIRL * (reach - CAGE)
    bulge = EDGE + FRONT * (1 - (reach / CAGE) ** 2)
    return np.array([reach * np.cos(turn), -bulge, AXIS + reach * np.sin(turn)])


def _on_blade(blade, aside, reach):
    """The point [3] of a blade at `aside` along the arc and at a distance from the axis."""
    turn = TURN + 2 * np.pi * blade / BLADES + aside / reach
    return np.array([reach * np.cos(turn), PITCHED * aside, AXIS + reach * np.sin(turn)])


def _wrapped(turn):
    return turn - 2 * np.pi * np.round(turn / (2 * np.pi))


def _lost(defect, part):
    return bool(defect and defect["kind"] == "missing" and defect["part"] == part)


def _bump(away, half):
    return np.clip(1 - (away / half) ** 2, 0, 1) ** 2


def _wires(x, y, z, reach, turn, defect):
    """Distance-like value of the cage's wires."""
    front = y + EDGE + FRONT * (1 - (reach / CAGE) ** 2)
    if defect and defect["kind"] == "bent" and defect["pressed"]:
        middle = _centre(defect)
        away = np.hypot(x - middle[0], z - middle[2])
        front = front - defect["depth"] * _bump(away, defect["radius"]) * (reach < CAGE - 0.02)
    steep = 2 * FRONT / CAGE**2 * reach
    front = front / np.sqrt(1 + steep * steep)
    share = (turn - SWIRL * (reach - CAGE)) * SPOKES / (2 * np.pi)
    slope = 1 / np.sqrt(1 + (SWIRL * reach) ** 2)
    aside = (share - np.round(share)) * (2 * np.pi / SPOKES * slope) * reach
    spokes = np.hypot(front, aside) - WIRE
    kind = defect and defect["kind"]
    if (kind == "bent" and not defect["pressed"]) or _lost(defect, LOST_WIRE):
        one = np.round(share) % SPOKES == defect["spoke"]
        spokes = np.where(one, 1, spokes)
        lone = _wrapped(turn - SWIRL * (reach - CAGE) - 2 * np.pi * defect["spoke"] / SPOKES)
        lone, off = lone * reach * slope, front
        if kind == "bent":
            bump = _bump(reach - defect["at"], defect["half"])
            lone, off = lone - defect["aside"] * bump, off + defect["out"] * bump
        wire = np.hypot(off, lone) - WIRE
        if kind == "missing":
            wire = np.maximum(wire, defect["half"] - np.abs(reach - defect["at"]) + 0.3 * off)
        spokes = np.minimum(spokes, wire)
    spokes = np.maximum(spokes, INNER - reach)
    rear = y - EDGE - REAR * (1 - (reach / CAGE) ** 2)
    bars = turn * BARS / (2 * np.pi)
    bars = np.hypot(rear, (bars - np.round(bars)) * (2 * np.pi / BARS) * reach) - WIRE
    bars = np.maximum(bars, MOTOR[0] - 0.02 - reach)
    rings = [np.hypot(front - 0.006, reach - radius) - WIRE for radius in RINGS]
    rings.append(np.hypot(rear + 0.006, reach - RINGS[0]) - WIRE)
    wires = np.maximum(np.minimum.reduce([spokes, bars, *rings]), reach - CAGE)
    hoop = box(reach - CAGE, y, 0 * y, (*HOOP, 1), 0.012)
    return np.minimum(wires, hoop)


def _bitten(x, y, z, defect):
    """Distance-like value of what a chip takes away."""
    away = [a - c for a, c in zip((x, y, z), _centre(defect), strict=True)]
    phase = defect["seed"] % 7
    rough = np.sin(71 * x + phase) * np.sin(63 * z - phase) + np.sin(83 * y + 40 * x + phase)
    return np.sqrt(sum(a * a for a in away)) - defect["radius"] + 0.006 * rough


def _torn(aside, reach, defect):
    """Distance-like value that is positive where a blade's tip broke off."""
    rough = 0.007 * np.sin(73 * aside + defect["seed"] % 7) + 0.004 * np.sin(171 * aside)
    return reach - defect["cut"] - defect["slant"] * aside + rough


def _wings(y, reach, turn, defect):
    """Distance-like value of the blades with their hub."""
    middle, wide, long, thick = BLADE
    wings = []
    for blade in range(BLADES):
        aside = _wrapped(turn - TURN - 2 * np.pi * blade / BLADES) * reach
        outline = np.hypot(aside / wide, (reach - middle) / long)
        outline = (outline - 1) * 0.8 * long
        sheet = np.abs(y - PITCHED * aside) * 0.9 - thick
        wing = -smooth_min(-outline, -sheet, 0.012)
        if _lost(defect, LOST_TIP) and blade == defect["blade"]:
            wing = np.maximum(wing, _torn(aside, reach, defect))
        wings.append(wing)
    radius, start, end = HUB
    hub = -smooth_min(radius - reach, np.minimum(y - start - 2 * reach**2, end - y), 0.03)
    return smooth_min(np.minimum.reduce(wings), hub, 0.03)


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of the parts, in the order of their looks, each as x."""
    x, y, z = (np.asarray(v) / SIZE for v in (x, y, z))
    up = z - AXIS
    reach, turn = np.hypot(x, up), np.arctan2(up, x)
    wires, wings, near = np.ones_like(x), np.ones_like(x), (y > -0.28) & (y < 0.18) & (z > -0.33)
    polar = reach[near], turn[near]
    wires[near] = _wires(x[near], y[near], z[near], *polar, defect)
    wings[near] = _wings(y[near], *polar, defect)
    bulge = EDGE + FRONT * (1 - (INNER / CAGE) ** 2)
    badge = rod(x, up, y + 0.25 * reach**2, PLATE[0], -bulge - PLATE[1], -bulge + PLATE[1], 0.012)

    radius, start, end, rounding = MOTOR
    motor = rod(x, up, y, radius, start, end, rounding)
    pitch, half = VENTS
    slots = np.hypot(np.maximum(np.abs(x) - 0.07, 0), up - pitch * np.round(up / pitch)) - half
    slots = both(slots, np.abs(up) - 2.5 * pitch, end - 0.03 - y)
    seam = np.hypot(reach - radius, y - 0.27) - 0.008
    motor = np.maximum.reduce([motor, -slots, -seam])
    py, pz = PIVOT
    joint = rod(y - py, z - pz, x, JOINT[0], -JOINT[1], JOINT[1], 0.02)
    middle = py - LEAN * smoothstep((pz - z) / 0.65)
    column = both(cylinder(x, (y - middle) * 0.95, COLUMN), z - pz - 0.03, TOP - 0.02 - z)
    body = smooth_min(smooth_min(motor, joint, 0.03), column, 0.03)
    away = np.hypot(x, y - BASE_Y)
    base = rod(x, y - BASE_Y, z, BASE, BOTTOM, TOP, 0.035)
    base = np.maximum(base, 0.006 - np.hypot(away - BASE, z - BOTTOM - 0.03))
    dial = np.hypot(x, y - KNOB_Y)
    base = np.maximum(base, -both(dial - KNOB[0] - 0.008, TOP - 0.012 - z))
    body = smooth_min(body, base, 0.04)

    spin = np.arctan2(y - KNOB_Y, x)
    ribbed = KNOB[0] - 0.005 * np.cos(RIBS * spin)
    grip = -smooth_min(ribbed + 0.25 * (TOP - z) - dial, TOP + KNOB[1] - z, 0.018)
    grip = np.maximum(grip, TOP - 0.008 - z)
    pointer = both(
        np.abs(0.8 * x + 0.6 * (y - KNOB_Y)) - 0.012, 0.02 - 0.8 * (y - KNOB_Y) + 0.6 * x
    )
    grip = np.maximum(grip, -both(pointer, TOP + KNOB[1] - 0.012 - z))
    spindle = rod(x, y - KNOB_Y, z, SPINDLE[0], TOP - 0.03, TOP + SPINDLE[1], 0.006)
    spindle = np.maximum(spindle, -both(x - 0.012, TOP + 0.004 - z, 0.008 - x))
    if _lost(defect, LOST_KNOB):
        grip = np.ones_like(x)
    radius, end = TILT_KNOB
    ribbed = radius - 0.006 * np.cos(10 * np.arctan2(z - pz, y - py))
    lever = -smooth_min(ribbed - np.hypot(y - py, z - pz), np.minimum(end - x, x - 0.088), 0.02)
    bolt = rod(y - py, z - pz, -x, BOLT[0], 0.06, BOLT[1], 0.012)
    cross = np.minimum(np.abs(y - py), np.abs(z - pz)) - 0.007
    bolt = np.maximum(bolt, -both(cross, BOLT[1] - 0.014 + x, np.hypot(y - py, z - pz) - 0.026))
    if _lost(defect, LOST_BOLT):
        bolt = np.ones_like(x)
        body = np.maximum(body, -both(np.hypot(y - py, z - pz) - 0.028, x + 0.04))
    axle = both(reach - SHAFT, -y, y - 0.2)
    metal = np.minimum.reduce([bolt, spindle, axle])

    soft = both(np.hypot(x, z - CABLE[2]) - CABLE[0], y - 0.54, 0.4 - y)
    ribs = CABLE[1] - 0.10 * np.maximum(y - 0.47, 0) - 0.004 * np.sin(210 * y)
    soft = np.minimum(soft, both(np.hypot(x, z - CABLE[2]) - ribs, y - 0.525, 0.4 - y))
    for k, (fx, fy) in enumerate(FEET):
        near = np.hypot(x - fx, y - fy)
        body = np.maximum(body, -both(near - FOOT[0] - 0.006, z - BOTTOM - 0.014))
        if not (_lost(defect, LOST_FOOT) and k == defect["foot"]):
            foot = both(near - FOOT[0], z - BOTTOM - 0.02, BOTTOM - FOOT[1] - z)
            soft = np.minimum(soft, foot)
    if defect and defect["kind"] == "chip":
        bite = -_bitten(x, y, z, defect)
        if defect["blade"]:
            wings = np.maximum(wings, bite)
        else:
            body = np.maximum(body, bite)
    return body, wires, wings, np.minimum(grip, lever), badge, metal, soft


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The fan's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    points = points / SIZE
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    grain = fractal_noise_3d(points, 50, 3, 3)
    look[:, :3] *= (1 + 0.01 * grain)[:, None]
    look[:, 4] += 0.014 * grain
    body = part == BODY
    reach = np.hypot(x, z - AXIS)
    look[body & (y > MOTOR[2] - 0.034) & (y < MOTOR[2] - 0.012) & (reach < 0.12)] = (*SOOT, 0, 0.8)
    level = (part == KNOBS) & (np.abs(z - TOP - KNOB[1] + 0.012) < 0.006) & (y < 0.1)
    look[level & (np.hypot(x, y - KNOB_Y) < KNOB[0] - 0.03)] = (*INK, 0, 0.4)
    misprint = None
    if defect and defect["kind"] == "misprint":
        misprint = {**defect, "centre": _centre(defect)}
    top = body & (np.abs(z - TOP) < 0.004)
    ink = inked_face(_printed, points[top], [(1, 0, 0), (0, -1, 0)], misprint) > 0
    look[np.flatnonzero(top)[ink]] = (*INK, 0, 0.4)
    for face, picture, right, down in (
        (body & (z < BOTTOM + 0.004), _label(), x, y - BASE_Y),
        ((part == BADGE) & (y < -0.15), _sign(), x, AXIS - z),
    ):
        ink = picked(picture, (right + BASE) * PX, (down + BASE) * PX)
        look[face & (ink == 1)] = (*LABEL, 0, 0.45)
        look[face & (ink == 2)] = (*INK, 0, 0.4)
    if defect:
        _spoil(look, points, part, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, y, z) = defect["kind"], points.T
    away = np.linalg.norm(points - _centre(defect), axis=1)
    reach = np.hypot(x, z - AXIS)
    if _lost(defect, LOST_WIRE):
        ends = np.abs(np.abs(reach - defect["at"]) - defect["half"]) < 0.010
        look[ends & (part == WIRES) & (away < defect["half"] + 0.02)] = (*STEEL, 1, 0.4)
    if _lost(defect, LOST_BOLT):
        look[(part == BODY) & (away < 0.08) & (x > 0.004 - JOINT[1])] = (*SOOT, 0, 0.7)
    if kind == "bent" and not defect["pressed"]:  # its coating flaked where it is bent
        flaked = fractal_noise_3d(points, 40, defect["seed"], 2) > 0.5
        look[flaked & (part == WIRES) & (away < 0.05)] = (*STEEL, 1, 0.4)
    if kind == "chip":
        of = WINGS if defect["blade"] else BODY
        look[(np.abs(_bitten(x, y, z, defect)) < 0.006) & (part == of)] = (*BROKEN, 0, 0.7)
    if kind == "stain":
        edge = away / defect["radius"] + 0.35 * fractal_noise_3d(points, 13, defect["seed"], 4)
        cover = defect["cover"] * smoothstep((1 - edge) / 0.25)
        spilt = np.tile([*STAINS[int(defect["sort"])], 0, 0.5], (len(points), 1))
        if defect["rust"]:
            share = smoothstep(0.5 + 0.8 * fractal_noise_3d(points, 25, defect["seed"] + 1, 3))
            rust = np.outer(share, RUST) + np.outer(1 - share, DARK_RUST)
            spilt = np.column_stack([rust, 0 * x, 0 * x + 0.85])
            patchy = smoothstep(0.8 + fractal_noise_3d(points, 30, defect["seed"] + 2, 3))
            cover = cover * patchy * (part == WIRES)
        look += cover[:, None] * (spilt - look)


def _printed(places):
    """Ink of the base's top at places [N, 2] (right, down), [N]."""
    right, down = places.T
    return picked(_scale(), (right + BASE) * PX, (down + BASE_Y + BASE) * PX)


@cache
def _scale() -> np.ndarray:
    """What is printed on the base about its middle, the knob in front, [rows, columns]."""
    canvas, middle = Canvas((BASE, BASE), PX), BASE_Y - KNOB_Y
    for k in range(25):  # dots that grow along the scale
        turn = -2.2 + 4.4 * k / 24
        right, down = 0.112 * np.sin(turn), middle - 0.112 * np.cos(turn)
        canvas.disc(right, down, 0.003 + 0.006 * k / 24, 2)
    for k, text in enumerate(("0", "1", "2", "3", "max")):
        turn = -2.2 + 1.1 * k
        right, down = 0.152 * np.sin(turn), middle - 0.148 * np.cos(turn)
        canvas.write(right + (0.02 if k == 4 else 0), down, 46 if k < 4 else 32, 2, text)
    canvas.write(-0.22, 0.02, 40, 2, "ARX")
    canvas.write(0.22, 0.02, 30, 2, "USB 5 V")
    canvas.rectangle(-0.28, 0.06, -0.16, 0.066, 2)
    return canvas.inks()


@cache
def _label() -> np.ndarray:
    """The label below the base, [rows, columns]."""
    canvas = Canvas((BASE, BASE), PX)
    canvas.rectangle(-0.165, -0.115, 0.165, 0.115, 1)
    canvas.write(-0.145, -0.08, 40, 2, "ARX F-210", anchor="lm")
    canvas.write(-0.145, -0.025, 26, 2, "5 V   4.5 W", anchor="lm")
    canvas.write(-0.145, 0.02, 26, 2, "No 22 0817", anchor="lm")
    canvas.bar_code(-0.145, 0.05, 0.13, 0.10, 2, seed=4)
    return canvas.inks()


@cache
def _sign() -> np.ndarray:
    """What is printed on the plate in front, [rows, columns]."""
    canvas = Canvas((BASE, BASE), PX)
    canvas.write(0, 0, 46, 2, "ARX")
    canvas.rectangle(-0.06, 0.045, 0.06, 0.052, 2)
    return canvas.inks()
