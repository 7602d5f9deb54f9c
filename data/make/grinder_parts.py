"""The coffee grinder's parts as distances: a jointed box, a drawer, a dome, a crank; defects.

The drawer and the plate face -y, the crank points to its azimuth, the dome's door looks back.
"""

import numpy as np

from .lights import smoothstep
from .marks import before_dent
from .mesh import both, box, cylinder, hexagon, rod, smooth_min, thread_depth

LOW, HIGH, STEP = np.array([-0.56, -0.732, -0.95]), np.array([0.68, 0.56, 0.94]), 0.0065
SIDE, FLOOR, CEILING = 0.42, -0.80, -0.03  # half width of the box; its lower and upper z
WALL, FINGERS = 0.055, 9  # thickness of the box's boards; how many fingers join them
# rounded boards of the mouldings: half width, from and to z, rounding
MOULDINGS = ((0.500, -0.87, -0.795, 0.030), (0.456, -0.805, -0.757, 0.022))
MOULDINGS += ((0.488, -0.035, 0.045, 0.034), (0.454, -0.078, -0.03, 0.022))
FOOT, FOOT_AT = (0.062, -0.925, -0.862), 0.385  # radius, from and to z; |x| and |y|
OPENING, OPENED, GAP = (0.292, 0.147), -0.08, 0.010  # half sizes; to y; around the drawer
DRAWER_Z, PROUD, PANEL = -0.590, 0.014, 0.050  # of the drawer; how far it stands out; thickness
TRAY, TRAY_WALL = (0.255, 0.145, 0.105), 0.028  # half sizes
KNOB = ((0.052, 0.014), (0.024, 0.07), (0.062, 0.044, 0.092))  # radius, end; radii, middle
PLATE_Z, PLATE, CORNER = -0.245, (0.278, 0.108), 0.050  # half sizes
THICK, BULGE = 0.014, 0.012  # of the plate at its edge; more in its middle
SCREW_AT, SCREW, SLOT = 0.226, (0.036, 0.042), (0.0065, 0.013)  # radius, end; half width, depth
FLANGE, BOLT_AT = (0.418, 0.04, 0.070), 0.263  # radius, from and to z; |x| and |y|
BOLT = (0.036, 0.06, 0.095)  # radius, from and to z
DOME_Z, DOME = 0.065, (0.315, 0.335)  # of its middle; half axes across and along z
BEAD = (0.318, 0.078, 0.020)  # of the dome's rim: radius, z, thickness
DOOR, DOOR_Z, LIFTED = (1.95, 0.44), (0.235, 0.085), 0.013  # azimuth, z and half of each
PULL = (0.034, 0.338)  # of the door's knob: radius, how far from the axis
OUTWARDS = (float(np.cos(DOOR[0])), float(np.sin(DOOR[0])))
COLLAR, KNURLS = (0.104, 0.385, 0.455), 34  # radius, from and to z
SPINDLE, PITCH, DEPTH = (0.040, 0.38, 0.642), 0.034, 0.009
HUB, NUT, NUT_DOME = (0.082, 0.498, 0.572), (0.056, 0.572, 0.632), 0.054
TURN, ARM_Z, RISE, REACH = 0.55, 0.535, (0.075, 0.10, 0.30), 0.575  # azimuth; far, from, over
AHEAD = (float(np.cos(TURN)), float(np.sin(TURN)))
ARM = (0.046, 0.012, 0.019)  # half width at the hub, narrower by; half thickness
PIVOT = ARM_Z + RISE[0] + ARM[2]  # z where the grip begins
FERRULE, RIVET = (0.053, -0.002, 0.042), (0.030, 0.25, 0.276)
PEAR, NECK = (0.088, 0.115, 0.158), (0.050, 0.036, 0.11)  # half axes, middle; radius, from and to
HOLE, HOLE_DEEP = 0.0225, 0.09  # what a lost screw leaves
PANELS, MOULDED, DRAWER, GRIP, COPPER, ENAMEL, BRASS, IRON, RUBBER = range(9)
LOST_SCREW, LOST_FOOT, LOST_KNOB, LOST_BOLT, LOST_NUT = range(5)  # what may be missing
PLATE_ASKEW, DRAWER_AJAR, GRIP_LEANS = range(3)  # what may be skewed
DRAWER_FACE = -SIDE - PROUD


def lost_part(defect: dict | None) -> int | None:
    """What is missing."""
    return int(defect["part"]) if defect and defect["kind"] == "missing" else None


def skewed_part(defect: dict | None) -> int | None:
    """What is skewed."""
    return int(defect["part"]) if defect and defect["kind"] == "skewed" else None


def corner_place(number: int, reach: float) -> tuple[float, float]:
    """x and y of one of four places in the corners."""
    return reach * (1 - 2 * (number % 2)), reach * (1 - 2 * (number // 2))


def bolt_place(number: int) -> tuple[float, float]:
    """x and y of one of the flange's four bolts."""
    return corner_place(number, BOLT_AT)


def grip_place() -> np.ndarray:
    """Where the grip begins, [3]."""
    return np.array([REACH * AHEAD[0], REACH * AHEAD[1], PIVOT])


def on_plate(x, z, defect: dict | None):
    """Places to the right and down from the plate's middle, as if it were not askew."""
    right, down = x, PLATE_Z - z
    if skewed_part(defect) != PLATE_ASKEW:
        return right, down
    cos, sin, pivot = np.cos(defect["turn"]), np.sin(defect["turn"]), defect["pivot"]
    right = right - pivot
    return pivot + cos * right + sin * down, cos * down - sin * right


def in_drawer(x, y, z, defect: dict | None):
    """Places as if the drawer were shut, z from its middle."""
    if skewed_part(defect) == DRAWER_AJAR:
        cos, sin, y = np.cos(defect["turn"]), np.sin(defect["turn"]), y + defect["out"] + SIDE
        x, y = cos * x + sin * y, cos * y - sin * x - SIDE
    return x, y, z - DRAWER_Z


def on_grip(x, y, z, defect: dict | None):
    """Places from the grip's lower end, z along it, as if it did not lean."""
    x, y, z = (v - c for v, c in zip((x, y, z), grip_place().tolist(), strict=True))
    if skewed_part(defect) != GRIP_LEANS:
        return x, y, z
    cos, sin = np.cos(defect["towards"]), np.sin(defect["towards"])
    along, across = cos * x + sin * y, cos * y - sin * x
    lean, stand = np.sin(defect["turn"]), np.cos(defect["turn"])
    return stand * along - lean * z, across, lean * along + stand * z


def bare_box(x, y, z):
    """Distance to the box of boards before anything is cut out of it."""
    middle, half = (FLOOR + CEILING) / 2, (CEILING - FLOOR) / 2
    return box(x, y, z - middle, (SIDE, SIDE, half), 0.012)


def crack_distance(x, y, z, defect: dict):
    """Distance-like value of a crack's gap along the fibres."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    fibre, across = int(defect["fibre"]), int(defect["across"])
    deep = sum(v * n for v, n in zip(away, defect["normal"], strict=True))
    along, phase = away[fibre], defect["seed"] % 7
    wander = 0.010 * np.sin(15 * along + phase) + 0.004 * np.sin(49 * along - phase)
    share = (1 - (along / defect["length"]) ** 2).clip(0, 1)
    gap = np.abs(away[across] + wander + defect["slope"] * along) - defect["width"] * np.sqrt(share)
    return both(gap, np.abs(along) - defect["length"], -0.05 - deep, deep - 0.05)


def _slotted(a, b, out, sizes, turn):
    """Distance-like value of a round screw head whose axis is `out`."""
    radius, bottom, top = sizes
    slot = both(np.abs(np.cos(turn) * a + np.sin(turn) * b) - SLOT[0], top - SLOT[1] - out)
    return np.maximum(rod(a, b, out, radius, bottom, top, 0.022), -slot)


def _wood(x, y, z, defect):
    """Distance-like values of box, mouldings and drawer, holes cut."""
    boards = bare_box(x, y, z)
    depth = (OPENED + 1) / 2
    opening = box(x, y + 1 - depth, z - DRAWER_Z, (OPENING[0], depth, OPENING[1]))
    moulded = np.minimum.reduce(
        [
            box(x, y, z - (low + high) / 2, (half, half, (high - low) / 2), rounding)
            for half, low, high, rounding in MOULDINGS
        ]
    )
    dx, dy, dz = in_drawer(x, y, z, defect)
    wide, high = OPENING[0] - GAP, OPENING[1] - GAP
    panel = box(dx, dy - DRAWER_FACE - PANEL / 2, dz, (wide, PANEL / 2, high), 0.014)
    inwards = dy - DRAWER_FACE - PANEL - TRAY[1] + 0.01
    tray = box(dx, inwards, dz + 0.02, TRAY, 0.008)
    inner = (TRAY[0] - TRAY_WALL, TRAY[1] - TRAY_WALL, TRAY[2] + 0.01)
    hollow = box(dx, inwards, dz - 0.01, inner)
    drawer = np.minimum(panel, np.maximum(tray, -hollow))
    boards, lost = np.maximum(boards, -opening), lost_part(defect)
    if lost == LOST_SCREW:
        boards = np.maximum(boards, -_hole_behind_plate(x, y, z, defect))
    if lost == LOST_KNOB:
        drawer = np.maximum(drawer, -both(cylinder(x, z - DRAWER_Z, HOLE), y + SIDE - PANEL))
    if lost == LOST_FOOT:
        cx, cy = corner_place(int(defect["which"]), FOOT_AT)
        hole = both(cylinder(x - cx, y - cy, HOLE), z - MOULDINGS[0][1] - 0.06)
        moulded = np.maximum(moulded, -hole)
    if lost == LOST_BOLT:
        moulded = np.maximum(moulded, -_bolt_hole(x, y, z, defect))
    if defect and defect["kind"] == "crack":
        split = -crack_distance(x, y, z, defect)
        boards, moulded, drawer = (
            np.maximum(wood, split) if defect["part"] == part else wood
            for part, wood in enumerate((boards, moulded, drawer))
        )
    return boards, moulded, drawer


def _hole_behind_plate(x, y, z, defect):
    """Distance-like value of the hole a screw of the plate leaves."""
    right, down = x - (2 * defect["which"] - 1) * SCREW_AT, PLATE_Z - z
    return both(cylinder(right, down, HOLE), y + SIDE - HOLE_DEEP)


def _bolt_hole(x, y, z, defect):
    """Distance-like value of the hole a bolt of the flange leaves."""
    cx, cy = bolt_place(int(defect["which"]))
    return both(cylinder(x - cx, y - cy, HOLE), FLANGE[2] - HOLE_DEEP - z)


def _front(x, y, z, defect):
    """Distance-like values of the plate, and of the brass at the front."""
    lost, out = lost_part(defect), -SIDE - y
    right, down = on_plate(x, z, defect)
    outline = box(right, down, 0 * x, (*PLATE, 1), CORNER)
    top = THICK + BULGE * (1 - (right / PLATE[0]) ** 2).clip(0) * (1 - (down / PLATE[1]) ** 2)
    plate = both(-smooth_min(-outline, top - out, 0.010), -0.01 - out)
    brass = np.full_like(x, 9)
    for k, at in enumerate((-SCREW_AT, SCREW_AT)):
        if lost == LOST_SCREW and defect["which"] == k:
            plate = np.maximum(plate, -_hole_behind_plate(x, y, z, defect))
        else:
            head = _slotted(right - at, down, out, (SCREW[0], -0.01, SCREW[1]), 0.6 + 1.3 * k)
            brass = np.minimum(brass, head)
    if lost != LOST_KNOB:
        x, y, z = in_drawer(x, y, z, defect)
        out, ((disc, end), (stem, to), (wide, deep, middle)) = DRAWER_FACE - y, KNOB
        ball = np.sqrt((x * x + z * z) / wide**2 + ((out - middle) / deep) ** 2)
        knob = smooth_min(rod(x, z, out, stem, -0.01, to, 0.005), 0.9 * deep * (ball - 1), 0.012)
        brass = np.minimum.reduce([brass, knob, rod(x, z, out, disc, -0.01, end, 0.008)])
    return plate, brass


def _bare_dome(x, y, z):
    """Distance-like value of the bare dome."""
    wide, high = DOME
    return 0.95 * wide * (np.sqrt((x * x + y * y) / wide**2 + ((z - DOME_Z) / high) ** 2) - 1)


def door_distance(x, y, z):
    """Distance-like value of what lies behind the dome's door, endless along the radius."""
    (azimuth, wide), (level, high) = DOOR, DOOR_Z
    off = (np.arctan2(y, x) - azimuth + np.pi) % (2 * np.pi) - np.pi
    return box(DOME[0] * off, z - level, 0 * x, (DOME[0] * wide, high, 1), 0.03)


def _hopper(x, y, z, defect):
    """Distance-like values of the dome with its flange, and of the bolts, nut and knob on it."""
    lost, bent = lost_part(defect), before_dent(x, y, z, defect)
    dome = _bare_dome(*bent)
    door = -smooth_min(-door_distance(*bent), LIFTED - dome, 0.008)
    rim = np.hypot(np.hypot(x, y) - BEAD[0], z - BEAD[1]) - BEAD[2]
    copper = np.minimum.reduce([both(np.minimum(dome, door), 0.05 - z), rim])
    copper = np.minimum(copper, rod(x, y, z, *FLANGE, 0.010))
    around = KNURLS * np.arctan2(y, x)
    knurled = 0.004 * np.cos(around) * smoothstep((0.024 - np.abs(z - 0.42)) / 0.006)
    brass = rod(x, y, z, *COLLAR, 0.014) + knurled
    for k in range(4):
        cx, cy = bolt_place(k)
        if lost == LOST_BOLT and defect["which"] == k:
            copper = np.maximum(copper, -_bolt_hole(x, y, z, defect))
        else:
            brass = np.minimum(brass, _slotted(x - cx, y - cy, z, BOLT, 0.4 + 1.9 * k))
    if lost != LOST_NUT:
        radius, low, high = NUT
        nut = both(hexagon(x, y, radius), cylinder(x, y, 1.09 * radius), low - z, z - high)
        acorn = both(np.sqrt(x * x + y * y + (z - high) ** 2) - NUT_DOME, low - z)
        brass = np.minimum.reduce([brass, nut, acorn])
    radius, out = PULL
    along, across = OUTWARDS[0] * x + OUTWARDS[1] * y, OUTWARDS[0] * y - OUTWARDS[1] * x
    pull = np.sqrt((along - out) ** 2 + across**2 + (z - DOOR_Z[0]) ** 2) - radius
    stalk = rod(across, z - DOOR_Z[0], along, 0.016, out - 0.09, out, 0.004)
    return copper, np.minimum(brass, smooth_min(pull, stalk, 0.01))


def _crank(x, y, z, defect):
    """Distance-like values of arm with spindle, of the wooden grip, and of its brass."""
    along, across = AHEAD[0] * x + AHEAD[1] * y, AHEAD[0] * y - AHEAD[1] * x
    far, start, over = RISE
    up = z - ARM_Z - far * smoothstep((along - start) / over)
    half, less, thick = ARM
    wide = half - less * (along / REACH).clip(0, 1)
    plan = box(along - REACH / 2, across * half / wide, 0 * x, (REACH / 2 + half, half, 1), half)
    arm = -smooth_min(-plan, thick - np.abs(up), 0.012) * 0.85
    arm = smooth_min(arm, rod(x, y, z, *HUB, 0.012), 0.015)
    threaded = DEPTH * thread_depth(x, y, z, PITCH) * (z > HUB[2])
    iron = np.minimum(arm, rod(x, y, z, *SPINDLE, 0.01) + threaded)
    gx, gy, gz = on_grip(x, y, z, defect)
    head = rod(along - REACH, across, z - PIVOT, 0.032, -0.065, 0.01, 0.012)
    iron = np.minimum(iron, head)
    wide, high, middle = PEAR
    pear = 0.9 * wide * (np.sqrt((gx * gx + gy * gy) / wide**2 + ((gz - middle) / high) ** 2) - 1)
    grip = smooth_min(pear, rod(gx, gy, gz, *NECK, 0.008), 0.04)
    brass = np.minimum(rod(gx, gy, gz, *FERRULE, 0.010), rod(gx, gy, gz, *RIVET, 0.008))
    return iron, grip, brass


def _within(near, make, x, y, z, count: int):
    """`count` values as `make` gives them of the places `near`, 1 elsewhere; each as x."""
    values = [np.full_like(x, 1) for _ in range(count)]
    for value, made in zip(values, make(x[near], y[near], z[near]), strict=True):
        value[near] = made
    return values


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of each part in the order of their numbers, each as x."""

    def made(make):
        return lambda *places: make(*places, defect)

    boards, moulded, drawer = _within(z < 0.08, made(_wood), x, y, z, 3)
    front = (y < 0.06 - SIDE) & (z < CEILING + 0.02)
    plate, fittings = _within(front, made(_front), x, y, z, 2)
    copper, bolts = _within(z > 0.0, made(_hopper), x, y, z, 2)
    iron, grip, ferrule = _within(z > SPINDLE[1] - 0.03, made(_crank), x, y, z, 3)
    rubber = np.full_like(x, 1)
    low = z < MOULDINGS[0][1] + 0.03
    for k in range(4):
        if lost_part(defect) != LOST_FOOT or defect["which"] != k:
            cx, cy = corner_place(k, FOOT_AT)
            foot = rod(x[low] - cx, y[low] - cy, z[low], *FOOT, 0.018)
            rubber[low] = np.minimum(rubber[low], foot)
    brass = np.minimum.reduce([fittings, bolts, ferrule])
    return boards, moulded, drawer, grip, copper, plate, brass, iron, rubber


def distance(x, y, z, defect: dict | None = None):
    """Distance-like value of the whole grinder, as x."""
    return np.minimum.reduce(parts(x, y, z, defect))
