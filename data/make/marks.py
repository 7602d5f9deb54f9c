"""Defects as several of the objects have them, and their description."""

import numpy as np

from .lights import smoothstep
from .mesh import Mesh, mesh_from_distance, unit
from .noise import fractal_noise_3d


def described(kind: str, centre, normal, seed: int, sizes: dict) -> dict:
    """A defect in plain numbers: kind, centre and normal [3], seed, sizes by name."""
    return {
        "kind": kind,
        "centre": [float(c) for c in centre],
        "normal": [float(c) for c in normal],
        "seed": seed,
        **{name: float(value) for name, value in sizes.items()},
    }


def first_met(way, parts, distance):
    """Where a way [N, 3] first enters an object: the part's number, point and normal [3] each.

    None where it doesn't. parts, distance: of the object, as functions of x, y, z.
    """
    values = np.array(parts(*way.T))
    inside = values.min(0) < 0
    if not inside.any():
        return None
    first = inside.argmax()
    point, off = way[first], 0.004 * np.eye(3)
    normal = unit(distance(*(point + off).T) - distance(*(point - off).T))
    return values[:, first].argmin(), point, normal


def open_place(rng, of, parts, distance, bounds, axis=None, steps=301, facing=0.8):
    """A point of one of the parts `of` that shows along an axis and its normal, [3] each.

    Args:
        parts, distance: of the object, as functions of x, y, z; bounds: its lowest and highest
            corner, [3] each.
        axis: 0 to 2; None: another one each time; steps: of a way across the object; facing: least
            share of the normal along the way that met it.
    """
    wanted, (low, high) = rng.choice(of), bounds
    while True:
        along = rng.choice(3) if axis is None else axis
        way = np.tile(rng.uniform(low, high), (steps, 1))
        way[:, along] = np.linspace(low[along], high[along], steps)[:: rng.choice([-1, 1])]
        met = first_met(way, parts, distance)
        if met is not None and met[0] == wanted and abs(met[2][along]) > facing:
            return met[1:]


def before_dent(x, y, z, defect: dict | None):
    """Where the material at x, y, z was before a dent pressed it in; arrays of one shape."""
    if not defect or defect["kind"] != "dent":
        return x, y, z
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    deep = sum(v * n for v, n in zip(away, defect["normal"], strict=True))
    across = (sum(v * v for v in away) - deep**2) / defect["radius"] ** 2
    pressed = defect["depth"] * np.clip(1 - across, 0, 1) ** 2 * smoothstep((deep + 0.24) / 0.12)
    return tuple(v + pressed * n for v, n in zip((x, y, z), defect["normal"], strict=True))


def union(parts):
    """Distance-like function of all of an object's parts, dented where the defect says so.

    It takes x, y, z (arrays of one shape, world units) and a defect; negative is inside.

    Args:
        parts: function of x, y, z and a defect: values of each part.
    """

    def distance(x, y, z, defect: dict | None = None):
        return np.minimum.reduce(parts(*before_dent(x, y, z, defect), defect))

    return distance


def solid_with_parts(
    distance, parts, grid, defect: dict | None
) -> tuple[Mesh, np.ndarray, np.ndarray]:
    """An object's surface, its vertices before a dent [N, 3], and the part each belongs to, [N].

    Args:
        distance, parts: the object's functions of x, y, z and a defect; grid: its lowest and
            highest corner, and the spacing.
    """
    solid = mesh_from_distance(lambda x, y, z: distance(x, y, z, defect), *grid)
    x, y, z = before_dent(*solid.vertices.T, defect)
    return solid, np.stack([x, y, z], 1), np.abs(parts(x, y, z, defect)).argmin(0)


def face_axes(normal, angle: float, across=(0.1, 0.1, 1.0)) -> tuple[np.ndarray, np.ndarray]:
    """A line on a face, and what is aside of it, [3] each.

    Args:
        normal: of the face, [3]; angle, across: radians about it from where it meets the direction
            `across` [3] at right angles.
    """
    side = unit(np.cross(normal, across))
    line = np.cos(angle) * side + np.sin(angle) * np.cross(normal, side)
    return line, np.cross(normal, line)


def scratched(
    points, defect: dict, normal=None, across=(0.1, 0.1, 1.0), reach: float = 0.1
) -> np.ndarray:
    """Which of the points [N, 3] of a surface lie in a scratch, [N] bool.

    Args:
        normal: of the scratched face, [3]; None: the defect's; across: direction [3] that its angle
            is measured from; reach: how far from the face it is scratched.
    """
    away = points - np.array(defect["centre"])
    normal = np.array(defect["normal"]) if normal is None else normal
    along, across = (away @ axis for axis in face_axes(normal, defect["angle"], across))
    width = defect["width"] * np.clip(1 - (along / defect["length"]) ** 2, 0, 1)
    on_face = np.abs(away @ normal) < reach
    return on_face & (np.abs(across + 0.015 * np.sin(along * 11)) < width)


def picked(image: np.ndarray, column, row) -> np.ndarray:
    """Values of a picture [rows, columns] at its pixels [N], the nearest where they lie outside."""
    column, row = np.asarray(column).astype(int), np.asarray(row).astype(int)
    return image[row.clip(0, image.shape[0] - 1), column.clip(0, image.shape[1] - 1)]


def interpolated(image: np.ndarray, column, row) -> np.ndarray:
    """The same between the pixels' middles, bilinear."""
    left, top = np.floor(column), np.floor(row)
    a, b = column - left, row - top
    upper = picked(image, left, top) * (1 - a) + picked(image, left + 1, top) * a
    lower = picked(image, left, top + 1) * (1 - a) + picked(image, left + 1, top + 1) * a
    return upper * (1 - b) + lower * b


def ink_distance(image, px: float) -> np.ndarray:
    """Distance to the ink of a grey picture in world units, negative within, [rows, columns].

    Args:
        px: pixels per world unit.
    """
    from scipy import ndimage

    ink = np.asarray(image) > 127
    away = ndimage.distance_transform_edt(~ink) - ndimage.distance_transform_edt(ink)
    return (ndimage.gaussian_filter(away, 0.7) / px).astype(np.float32)


def marked_face(image: np.ndarray, right, down, half, px: float) -> np.ndarray:
    """Distance-like value of marks on a face, endless across it; 1 beyond their picture.

    Args:
        image: an `ink_distance`, [rows, columns]; right, down: places about its middle, arrays of
            one shape; half: its width and height, halved; px: pixels per world unit.
    """
    value = np.full_like(right, 1)
    near = (np.abs(right) < half[0]) & (np.abs(down) < half[1])
    column, row = (right[near] + half[0]) * px - 0.5, (down[near] + half[1]) * px - 0.5
    value[near] = interpolated(image, column, row)
    return value


def inked_face(printed, points, axes, misprint: dict | None) -> np.ndarray:
    """Ink at points [N, 3] of a printed face, [N].

    Args:
        printed: takes places [N, 2] (right, down) and returns their ink [N].
        axes: right and down as the face is seen, [2, 3]; misprint: the defect, where it is on it.
    """
    axes = np.array(axes, float)
    places = points @ axes.T
    if misprint is None:
        return printed(places)
    return misprinted(printed, places, axes @ misprint["centre"], misprint)


def rolled_ink(printed, points, radius: float, middle: float, defect: dict | None) -> np.ndarray:
    """Ink [N] at points [N, 3] of a wall about the z axis, misprinted or with a bare patch.

    Args:
        printed: ink at places [N, 2] (right, down) of the unrolled wall, from the height `middle`.
        defect: of kind misprint: right, below, and erased within a radius, or as `misprinted`.
    """
    x, y, z = np.asarray(points).T
    places = np.stack([radius * np.arctan2(y, x), middle - z], 1)
    if not defect or defect["kind"] != "misprint":
        return printed(places)
    centre = np.array([defect["right"], defect["below"]])
    if not defect["erased"]:
        return misprinted(printed, places, centre, defect)
    ragged = 0.12 * fractal_noise_3d(points, 14, defect["seed"], 3)
    bare = np.linalg.norm(places - centre, axis=1) / defect["radius"] + ragged < 0.85
    return np.where(bare, 0, printed(places))


def misprinted(printed, places, centre, defect: dict) -> np.ndarray:
    """What is printed at places [N, 2] when a disc of the print was moved or smeared, [N].

    Args:
        printed: takes places [N, 2] and returns their ink [N]; the higher number covers.
        centre: of the disc, [2]; its radius, the move and whether it smeared are the defect's.
    """
    inside = (np.linalg.norm(places - centre, axis=1) < defect["radius"])[:, None]
    shift = np.array([defect["across"], defect["down"]])
    steps = np.linspace(0, 1, 25) if defect["smeared"] else [1.0]
    return np.maximum.reduce([printed(places - step * inside * shift) for step in steps])
