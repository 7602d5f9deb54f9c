"""The parts of the watch: head with dial and hands, and the strap that is closed to an oval loop.

The dial looks along -y with twelve up (z) and the crown at x; "out" is -y. The strap runs about the
x axis: `s` along it from the bar at twelve over the top to the one at six, `n` outwards.
"""

from functools import cache

import numpy as np

from .lights import smoothstep
from .marks import union
from .mesh import both, box, cylinder, rod, smooth_min

HEAD_GRID = (np.array([-0.60, -0.75, -0.70]), np.array([0.70, -0.37, 0.70]), 0.0048)
STRAP_GRID = (np.array([-0.34, -0.62, -0.97]), np.array([0.34, 0.83, 0.97]), 0.0072)
# radius, from and to out, rounding
MIDDLE, BACK = (0.52, 0.445, 0.594, 0.035), (0.44, 0.400, 0.455, 0.015)
BEZEL, DIAL, REHAUT = (0.505, 0.602, 0.674, 0.02), (0.41, 0.56, 0.612, 0.004), (0.388, 0.35)
KNURLS, KNURL = 60, 0.010  # grooves of the bezel's edge, their depth
SLOPE = 0.22  # of the bezel's top
NOTCHES, NOTCH = 6, (0.395, 0.028, 0.415)  # of the case back: circle, radius, floor
SUB, SUB_FLOOR = (-0.195, 0.118), 0.605  # small seconds: z and radius; its floor
DATE = (0.272, 0.056, 0.042, 0.010)  # of the frame: x, half sizes, width
LUG = ((0.40, 0.525, 0.078), (0.60, 0.475, 0.052), 0.325, 0.046)  # |z|, out, radius; |x|, half
BAR = (0.575, 0.020)  # of the spring bars: |z|, radius
CROWN, STEM, CROWN_OUT, TEETH = (0.078, 0.548, 0.655, 0.014), (0.036, 0.45, 0.575, 0.01), 0.522, 22
GUARD = (0.50, 0.128, (0.095, 0.042, 0.058), 0.035)  # beside it: x, |z|, half sizes, rounding
# applied indices: hour, middle radius, half length, aside
INDICES = [(h, 0.325, 0.043, 0) for h in (1, 2, 4, 5, 7, 8, 9, 10, 11)]
INDICES += [(6, 0.345, 0.020, 0), (0, 0.325, 0.043, -0.027), (0, 0.325, 0.043, 0.027)]
INDEX_WIDE, INDEX_HIGH = 0.018, 0.024
HOUR, MINUTE, SECOND = range(3)
# of the hands: clockwise turn from twelve in rad, length, tail, half width, from and to out
HANDS = ((5.306, 0.225, 0.05, 0.030, 0.630, 0.642), (0.838, 0.345, 0.06, 0.024, 0.646, 0.657))
HANDS += ((3.77, 0.096, 0.035, 0.009, 0.612, 0.622),)
BOSSES = (0.034, 0.031, 0.019)  # radii
POSTS = ((0.0, 0.018, 0.668), (-0.195, 0.010, 0.630))  # that they turn on: z, radius, top
LOOP = (0.66, 0.84)  # half axes of the strap's oval, out and up
SHORT, LONG = 0, 1
WIDE, TAPER = (0.262, 0.208), 1.6  # half width at the lugs and from a way on
THICK, PAD, PAD_END = 0.034, 0.014, 0.5  # half thickness; more of it up to a way from the lugs
FOLD, SHORT_END = 0.032, 1.72  # how far the ends reach about the bars; where the buckle's bar is
TIP, TIP_LONG = 0.80, 0.22  # s where the long piece ends, and how long its tip is
LIFT, LIFTED = 0.080, (1.98, 0.24)  # of the long piece over the short: n; s where it starts, length
HOLES = [1.81 + 0.17 * k for k in range(-3, 4)]  # s
HOLE = 0.026
SEAM, STITCH, THREAD = 0.034, 0.056, 0.009  # from the edge; pitch; half width
CROSS_SEAM = 0.12  # along a piece
FIXED, LOOSE = 0, 1
KEEPERS = ((1.50, 0.055), (1.06, 0.046))  # s, half width
KEEPER = (0.022, 0.026)  # thickness of the leather, slack aside
FRAME = (1.865, 0.165, 0.262, 0.07, 0.068, 0.031)  # s, half sizes, corners, n, radius of the wire
PRONG = ((1.79, 0.112), (2.05, 0.118), 0.024)  # s, n of its ends; radius
AN_INDEX, A_HAND, THE_CROWN, THE_KEEPER, THE_PRONG = range(5)  # missing, the first four askew
SLIT, NICK, OPEN_SEAM = range(3)  # cuts
SLIT_DEPTH, GAPE = 0.055, 0.075  # of a slit; how far from the edge an open seam gapes
CASE, RING, PLATE, APPLIED, POINTERS, SMALL, KNOB, LID = range(8)
PIECES, KEEPING, BUCKLE = (8, 9), 10, 11


def _is(defect, kind: str, name: str, value) -> bool:
    """Whether a defect is of a kind and its number `name` is the value."""
    return bool(defect) and defect["kind"] == kind and defect[name] == value


def _turned(a, b, angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * a + sin * b, cos * b - sin * a


def _bar(a, b, start, end):
    """Distance-like value of a bar that narrows; start, end: two coordinates and a radius."""
    da, db = end[0] - start[0], end[1] - start[1]
    share = (((a - start[0]) * da + (b - start[1]) * db) / (da * da + db * db)).clip(0, 1)
    away = np.hypot(a - start[0] - share * da, b - start[1] - share * db)
    return away - start[2] - share * (end[2] - start[2])


# --- head ---------------------------------------------------------------------------------------


def index_place(number: int):
    """x and z of the middle of an applied index."""
    hour, middle, _, aside = INDICES[number]
    turn = hour * np.pi / 6
    return (
        middle * np.sin(turn) + aside * np.cos(turn),
        middle * np.cos(turn) - aside * np.sin(turn),
    )


def on_index(x, z, number: int, defect):
    """Places along (from the middle) and across an applied index."""
    (right, up), turn = index_place(number), INDICES[number][0] * np.pi / 6
    if _is(defect, "skewed", "what", AN_INDEX) and defect["part"] == number:
        turn = turn + defect["angle"]
        right, up = right + defect["right"], up + defect["up"]
    return _turned(z - up, x - right, turn)


def on_hand(x, z, out, hand: int, defect):
    """Places along and across a hand, and out as if it were not bent."""
    turn, length = HANDS[hand][:2]
    z = z - SUB[0] * (hand == SECOND)
    along, across = _turned(z, x, turn)
    if _is(defect, "skewed", "what", A_HAND) and defect["part"] == hand:
        past = -smooth_min(defect["from"] * length - along, 0 * along, 0.03)
        across = across - np.tan(defect["angle"]) * past
        out = out - defect["rise"] * past
    return along, across, out


def _hand(x, z, out, hand: int, defect):
    """Distance-like value of a hand: a leaf with a tail and a boss."""
    _, length, tail, wide, bottom, top = HANDS[hand]
    along, across, out = on_hand(x, z, out, hand, defect)
    share = ((along + tail) / (length + tail)).clip(0, 1)
    half = wide * (0.28 + 0.95 * smoothstep(share / 0.5) * (1 - share) ** 0.6)
    leaf = both(0.9 * (np.abs(across) - half), -tail - along, along - length)
    leaf = both(leaf, np.abs(out - (bottom + top) / 2) - (top - bottom) / 2)
    flat = z - SUB[0] * (hand == SECOND)
    return np.minimum(leaf, rod(x, flat, out, BOSSES[hand], bottom, top, 0.004))


def _applied(x, z, out, lost, defect):
    """Distance-like value of the indices and of the date's frame."""
    middle, high = DIAL[2] + INDEX_HIGH / 2 - 0.004, INDEX_HIGH / 2 + 0.004
    right, wide, tall, width = DATE
    frame = np.abs(box(x - right, z, 0 * x, (wide, tall, 1), 0.012)) - width
    value = both(frame, np.abs(out - middle) - high + 0.008)
    for number, (_, _, half, _) in enumerate(INDICES):
        if lost != number:
            along, across = on_index(x, z, number, defect)
            index = box(along, across, out - middle, (half, INDEX_WIDE, high), 0.006)
            value = np.minimum(value, index)
    return value


def _crown(x, z, out, defect):
    """Distance-like value of the crown, tilted on its stem where the defect says so."""
    right, up, out = x - STEM[2] + 0.06, z, out - CROWN_OUT
    if _is(defect, "skewed", "what", THE_CROWN):
        up, out = _turned(up, out, defect["towards"])
        right, up = _turned(right, up, defect["angle"])
        up, out = _turned(up, out, -defect["towards"])
        right = right - defect["pulled"]
    right = right + STEM[2] - 0.06
    radius, start, end, rounding = CROWN
    turn, reach = np.arctan2(out, up), np.hypot(up, out)
    crown = rod(up, out, right, radius, start, end, rounding)
    crown = crown + 0.008 * smoothstep(0.5 + 0.9 * np.cos(TEETH * turn)) * (reach > 0.6 * radius)
    return np.maximum(crown, -both(np.abs(reach - 0.042) - 0.006, end - 0.008 - right))


def _metal(x, z, out):
    """Distance-like values of case with lugs and bars, bezel, dial, case back."""
    reach, turn, high = np.hypot(x, z), np.arctan2(z, x), np.abs(z)
    start, end, aside, half = LUG
    lug = -smooth_min(-_bar(high, out, start, end), half - np.abs(np.abs(x) - aside), 0.016)
    case = smooth_min(rod(x, z, out, *MIDDLE), lug, 0.025)
    bar_out = LOOP[0] * np.sqrt(1 - (BAR[0] / LOOP[1]) ** 2)
    bar = both(cylinder(high - BAR[0], out - bar_out, BAR[1]), np.abs(x) - aside)
    right, up, half, rounding = GUARD
    guard = box(x - right, high - up, out - CROWN_OUT, half, rounding)
    case = smooth_min(case, guard, 0.05)
    case = np.minimum.reduce([case, bar, rod(z, out - CROWN_OUT, x, *STEM)])
    groove = KNURL * smoothstep(0.4 + np.cos(KNURLS * turn)) * smoothstep((reach - 0.47) / 0.02)
    ring = rod(x, z, out, *BEZEL) + groove
    ring = both(ring, 0.95 * (out - BEZEL[2] + SLOPE * (reach - REHAUT[0])))
    ring = np.maximum(ring, 0.94 * (REHAUT[0] + REHAUT[1] * (out - DIAL[2]) - reach))
    plate = rod(x, z, out, *DIAL)
    plate = np.maximum(plate, -both(cylinder(x, z - SUB[0], SUB[1]), SUB_FLOOR - out))
    sector = 2 * np.pi / NOTCHES
    off = turn - np.round(turn / sector) * sector
    notch = np.hypot(reach * np.cos(off) - NOTCH[0], reach * np.sin(off)) - NOTCH[1]
    lid = np.maximum(rod(x, z, out, *BACK), -both(notch, out - NOTCH[2]))
    return case, ring, plate, lid


def head_parts(x, y, z, defect: dict | None = None):
    """Distance-like values of case, bezel, dial, indices, hands, small hand, crown, case back."""
    out = -y
    lost = {}
    if defect and defect["kind"] == "missing":
        lost = {int(defect["what"]): int(defect["part"])}
    case, ring, plate, lid = _metal(x, z, out)
    hands = [_hand(x, z, out, hand, defect) for hand in (HOUR, MINUTE, SECOND)]
    if A_HAND in lost:
        hands[lost[A_HAND]] = np.full_like(x, 9)
    large, small = (rod(x, z - up, out, radius, 0.59, top, 0.005) for up, radius, top in POSTS)
    hands = np.minimum.reduce([*hands[:SECOND], large]), np.minimum(hands[SECOND], small)
    crown = np.full_like(x, 9) if THE_CROWN in lost else _crown(x, z, out, defect)
    applied = _applied(x, z, out, lost.get(AN_INDEX), defect)
    return case, ring, plate, applied, *hands, crown, lid


# --- strap --------------------------------------------------------------------------------------


@cache
def _oval() -> tuple[np.ndarray, np.ndarray, float]:
    """Angles about the oval from the dial's side over the top, s there, and s of the bar at six."""
    angle = np.linspace(0, 2 * np.pi, 4001)
    step = np.hypot(np.diff(LOOP[0] * np.cos(angle)), np.diff(LOOP[1] * np.sin(angle)))
    way = np.concatenate([[0], np.cumsum(step)])
    first = np.interp(np.arcsin(BAR[0] / LOOP[1]), angle, way)
    return angle, way - first, way[-1] - 2 * first


def strap_length() -> float:
    return _oval()[2]


def along_strap(y, z):
    """s and n of places."""
    a, b = LOOP
    angle = np.arctan2(z / b, -y / a)
    for _ in range(4):
        cos, sin = np.cos(angle), np.sin(angle)
        off = (-y - a * cos) * -a * sin + (z - b * sin) * b * cos
        angle = angle + (off / ((a * sin) ** 2 + (b * cos) ** 2)).clip(-0.3, 0.3)
    cos, sin = np.cos(angle), np.sin(angle)
    outwards = ((-y - a * cos) * b * cos + (z - b * sin) * a * sin) / np.hypot(b * cos, a * sin)
    angles, way, _ = _oval()
    return np.interp(angle % (2 * np.pi), angles, way).astype(y.dtype), outwards


def on_strap(s, x, n):
    """World places [..., 3] of s, x, n, and the direction outwards there."""
    angles, way, _ = _oval()
    angle = np.interp(s, way, angles)
    (a, b), cos, sin = LOOP, np.cos(angle), np.sin(angle)
    long = np.hypot(b * cos, a * sin)
    out, up = b * cos / long, a * sin / long
    place = np.stack(np.broadcast_arrays(x, -a * cos - n * out, b * sin + n * up), -1)
    return place, np.array([0, -out, up])


def on_piece(piece: int, s, n):
    """How far along a piece of the strap from its lugs, and n from its own middle."""
    if piece == SHORT:
        return s, n
    start, long = LIFTED
    return strap_length() - s, n - LIFT * smoothstep((start - s) / long)


def half_width(along):
    """Of either piece."""
    return WIDE[0] - (WIDE[0] - WIDE[1]) * np.clip(along / TAPER, 0, 1)


def piece_outline(piece: int, x, along):
    """Distance-like value of a piece's outline when it lies flat."""
    outline = np.maximum(np.abs(x) - half_width(along), -FOLD - along)
    if piece == SHORT:
        return np.maximum(outline, along - SHORT_END - FOLD)
    past = along - (strap_length() - TIP - TIP_LONG)
    tip = (np.hypot(past / TIP_LONG, x / WIDE[1]) - 1) * WIDE[1]
    return np.where(past > 0, tip, outline)


def stitches(piece: int, x, along, outline, defect):
    """Where a piece is sewn, bool."""
    way = along
    if piece == LONG:  # on about the tip
        past = (along - strap_length() + TIP + TIP_LONG).clip(0) / TIP_LONG
        way = along - TIP_LONG * past + WIDE[1] * np.arctan2(past, np.abs(x) / WIDE[1])
    dash = np.sin(2 * np.pi * way / STITCH) > -0.35
    edge = (np.abs(outline + SEAM) < THREAD) & (along > 0.06) & dash
    if piece == SHORT:
        edge &= along < SHORT_END - 0.08
    across = np.sin(2 * np.pi * (x + STITCH / 4) / STITCH) > -0.35
    cross = (np.abs(along - CROSS_SEAM) < THREAD) & (outline < -SEAM) & across
    if _is(defect, "cut", "way", OPEN_SEAM) and defect["piece"] == piece:
        here = np.abs(along - defect["along"]) < defect["length"]
        edge &= ~(here & (x * defect["side"] > 0))
    return edge | cross


def opened(piece: int, x, along, outline, defect):
    """How far the layers of a piece stand apart where its seam is open."""
    if not _is(defect, "cut", "way", OPEN_SEAM) or defect["piece"] != piece:
        return 0 * x
    near = (1 - ((along - defect["along"]) / defect["length"]) ** 2).clip(0, 1)
    at_edge = smoothstep((outline + GAPE) / GAPE) * (x * defect["side"] > 0)
    return defect["gape"] * near * at_edge


def cut_distance(piece: int, x, along, level, defect):
    """Distance-like value of what is cut out of a piece; 9 where nothing is."""
    if not defect or defect["kind"] != "cut" or defect["piece"] != piece:
        return np.full_like(x, 9)
    phase, a, b = defect["seed"] % 7, along - defect["along"], x - defect["x"]
    if defect["way"] == NICK:
        rough = 0.007 * np.sin(63 * a + phase) + 0.006 * np.sin(81 * b - phase)
        return np.hypot(a / defect["stretch"], b) - defect["radius"] + rough
    if defect["way"] == SLIT:
        a, b = _turned(a, b, defect["angle"])
        wide = defect["width"] * (1 - (a / defect["length"]) ** 2).clip(-1, 1)
        wavy = np.abs(b + 0.006 * np.sin(29 * a + phase)) - wide
        return both(0.8 * wavy, THICK - SLIT_DEPTH - level)
    return np.full_like(x, 9)


def _piece(piece: int, x, s, n, defect):
    """Distance-like value of a piece of the strap."""
    along, level = on_piece(piece, s, n)
    outline = piece_outline(piece, x, along)
    gap = opened(piece, x, along, outline, defect)
    slot = gap / 2 - np.abs(level - gap / 2) - 0.004
    lowered = np.where(level > gap, level - gap, np.minimum(level, 0))
    padded = PAD * smoothstep((PAD_END - along) / 0.35) * (1 - (x / WIDE[0]) ** 2).clip(0, 1)
    half = THICK + padded + 0.006 * stitches(piece, x, along, outline, defect)
    solid = np.maximum(-smooth_min(-outline, half - np.abs(lowered), 0.022), slot)
    if piece == LONG:
        for hole in HOLES:
            solid = np.maximum(solid, HOLE - np.hypot(s - hole, x))
    return np.maximum(solid, -cut_distance(piece, x, along, level, defect))


def _keeper(number: int, x, s, n, defect):
    """Distance-like value of a keeper about both pieces."""
    middle, half = KEEPERS[number]
    s = s - middle
    if _is(defect, "skewed", "what", THE_KEEPER) and number == LOOSE:
        s, x = _turned(s - defect["shift"], x, defect["angle"])
    skin, slack = KEEPER
    inner = (WIDE[1] + slack, LIFT / 2 + THICK + 0.004, 1)
    outer = (inner[0] + skin, inner[1] + skin, 1)
    level = n - LIFT / 2
    band = both(box(x, level, 0 * x, outer, 0.035), -box(x, level, 0 * x, inner, 0.02))
    return -smooth_min(-band, half - np.abs(s), 0.014)


def _buckle(x, s, n, lost):
    """Distance-like value of the buckle's frame with its prong."""
    middle, long, wide, corner, level, radius = FRAME
    outline = box(s - middle, x, 0 * x, (long, wide, 1), corner)
    frame = np.hypot(outline, n - level) - radius
    (s0, n0), (s1, n1), thick = PRONG
    prong = np.hypot(_bar(s, n, (s0, n0 - 0.03, 0), (s1, n1, 0)), x) - thick
    return frame if lost else np.minimum(frame, prong)


def strap_parts(x, y, z, defect: dict | None = None):
    """Distance-like values of the short and the long piece, the keepers, the buckle."""
    s, n = along_strap(y, z)
    pieces = [_piece(piece, x, s, n, defect) for piece in (SHORT, LONG)]
    keepers = _keeper(FIXED, x, s, n, defect)
    if not _is(defect, "missing", "what", THE_KEEPER):
        keepers = np.minimum(keepers, _keeper(LOOSE, x, s, n, defect))
    return *pieces, keepers, _buckle(x, s, n, _is(defect, "missing", "what", THE_PRONG))


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of all parts, each as x."""
    return *head_parts(x, y, z, defect), *strap_parts(x, y, z, defect)


distance, head_distance, strap_distance = union(parts), union(head_parts), union(strap_parts)
