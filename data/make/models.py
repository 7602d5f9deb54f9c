"""Objects that others have modelled: Wavefront OBJ files with materials, made fit to be broken.

Any folder of them will do; docs/change_net.md names the collection that was used. Faces that are
never seen from outside are left out, large ones divided, so that colours can stand at vertices and
damage finds some to move. An object's parts are what hangs together and is of one material: they
get lost, slip, or are of another colour; a hole can be broken anywhere.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from zlib import crc32

import numpy as np

from . import damage
from .cameras import fibonacci_directions, look_at
from .likeness import GAMMA
from .marks import described
from .mesh import Mesh, face_normals, unit
from .noise import fractal_noise_3d
from .random_scene import random_palette
from .render import Stage, vertex_material

SMALLEST_RADIUS, LARGEST_RADIUS = 0.95, 1.22  # of the ball about an object, world units
STEP = 0.015  # longest edge; two pixels of 400 at the camera's distance
MOST_FACES = 220_000  # about; beyond it edges are longer
CREASE = np.radians(35)  # faces at a larger angle don't share a normal
WELD = 1e-5  # of the object's size: corners nearer than that are in one place
ROW_STEP = 1e-5  # vertices that differ less, in all they have, are one
VIEWS, VIEW_SIZE, VIEW_DISTANCE = 60, (320, 320), 3.9  # from which what is seen is found
BARE_METAL = "metal", "chrome", "steel", "inox", "alumin", "brass", "gold", "silver", "iron"
METAL_SHARE = 0.12  # of the other materials
GREY = 128, 128, 128  # where a file names no colour
KINDS = "holed", "lost", "slipped", "recoloured"  # all but the first befall parts
SMALLEST_MASK = 0.001  # 160 px of 400 x 400
PART_AREA = 0.0012, 0.07  # share of the surface seen that a part has that gets lost


@dataclass(frozen=True)
class Model:
    """An object read from a file; it has what the modules of `objects.OBJECTS` have."""

    flawless: Mesh
    part: np.ndarray  # of the mesh's vertices, their part's number, [N]
    loose: np.ndarray  # numbers of the parts that can get lost
    MATERIAL: dict
    SMALLEST_MASK: dict

    @property
    def defects(self) -> tuple[str, ...]:
        return KINDS if len(self.loose) else KINDS[:1]

    def random_defect(self, kind: str, rng: np.random.Generator) -> dict:
        """Parameters of a defect of `kind` (of KINDS) somewhere on the object."""
        seed = int(rng.integers(1 << 30))
        if kind == "holed":
            at = rng.integers(len(self.part))
            return self._described(kind, at, seed, {"radius": rng.uniform(0.04, 0.12)})
        number = self.loose[rng.integers(len(self.loose))]
        at = rng.choice((self.part == number).nonzero()[0])
        sizes = {"part": number}
        if kind == "slipped":
            for name, low, high in (("shift", 0.03, 0.1), ("turn", 0, 0.4)):
                vector = rng.uniform(low, high) * unit(rng.standard_normal(3))
                sizes |= {f"{name}_{axis}": v for axis, v in zip("xyz", vector, strict=True)}
        elif kind == "recoloured":
            sizes |= dict(zip(("red", "green", "blue"), random_palette(rng, 1)[0], strict=True))
        elif kind != "lost":
            raise ValueError(f"models have no {kind!r}; known: {', '.join(KINDS)}")
        return self._described(kind, at, seed, sizes)

    def _described(self, kind: str, at: int, seed: int, sizes: dict) -> dict:
        mesh = self.flawless
        return described(kind, mesh.vertices[at], mesh.normals[at], seed, sizes)

    def defect_normal(self, defect: dict) -> np.ndarray:
        return np.array(defect["normal"])

    def mesh(self, defect: dict | None = None) -> Mesh:
        """The object, flawless or with a defect."""
        mesh = replace(self.flawless)
        if defect is None:
            return mesh
        if defect["kind"] == "holed":
            away = np.linalg.norm(mesh.vertices - np.array(defect["centre"], np.float32), axis=1)
            ragged = 0.25 * fractal_noise_3d(mesh.vertices, 14, int(defect["seed"]), 3)
            return _without(mesh, away / defect["radius"] + ragged < 1)
        mine = self.part == int(defect["part"])
        if defect["kind"] == "lost":
            return _without(mesh, mine)
        if defect["kind"] == "recoloured":
            mesh.colour = mesh.colour.copy()
            mesh.colour[mine] = [defect[c] for c in ("red", "green", "blue")]
            return mesh
        from scipy.spatial.transform import Rotation

        turn = Rotation.from_rotvec([defect[f"turn_{axis}"] for axis in "xyz"]).as_matrix()
        middle = mesh.vertices[mine].mean(0)
        moved = (mesh.vertices[mine] - middle) @ turn.T + middle
        shift = np.array([defect[f"shift_{axis}"] for axis in "xyz"])
        mesh.vertices, mesh.normals = mesh.vertices.copy(), mesh.normals.copy()
        mesh.vertices[mine] = (moved + shift).astype(np.float32)
        mesh.normals[mine] = (mesh.normals[mine] @ turn.T).astype(np.float32)
        return mesh


def _without(mesh: Mesh, gone: np.ndarray) -> Mesh:
    """Without the faces that have a vertex that is gone, [N] bool."""
    return replace(mesh, faces=np.ascontiguousarray(mesh.faces[~gone[mesh.faces].any(1)]))


@lru_cache(1)
def read_model(path: Path) -> Model:
    """The object of an OBJ file: y is up there, z here; in the middle, about of unit size.

    Its size, and metal and roughness where its materials say nothing of them, are drawn by the
    file's name.
    """
    rng = np.random.default_rng(crc32(path.name.encode()))
    corners, look = _corners(path, rng)
    corners = corners[..., [0, 2, 1]] * np.array([1, -1, 1])
    corners = corners - (corners.min((0, 1)) + corners.max((0, 1))) / 2
    reach = np.linalg.norm(corners, axis=-1).max()
    corners *= rng.uniform(SMALLEST_RADIUS, LARGEST_RADIUS) / reach
    places = welded(corners.reshape(-1, 3)).reshape(-1, 3)
    kept = whole_faces(places)
    corners, look, places = corners[kept], look[kept], places[kept]
    part = parts_of(places, look[:, 0, 0])
    normals = corner_normals(corners, places)
    values, face = divided(np.concatenate([corners, normals, look[..., 1:]], 2))
    of = np.broadcast_to(part[face][:, None, None], (*values.shape[:2], 1))
    rows = np.concatenate([values, of], 2).reshape(-1, values.shape[2] + 1)
    first, faces = alike(rows / ROW_STEP)
    rows, faces = rows[first], faces.reshape(-1, 3).astype(np.uint32)
    vertices, normals = rows[:, :3].astype(np.float32), unit(rows[:, 3:6]).astype(np.float32)
    mesh = Mesh(vertices, faces, normals).painted(rows[:, 6:11])
    material = {"specular": rng.uniform(0.3, 0.6), "twosided": True}
    mesh, part = seen_from_outside(mesh, rows[:, 11].astype(int), material)
    area = np.linalg.norm(face_normals(mesh.vertices, mesh.faces), axis=1)
    share = np.bincount(part[mesh.faces[:, 0]], area, part.max() + 1) / area.sum()
    loose = ((share > PART_AREA[0]) & (share < PART_AREA[1])).nonzero()[0]
    return Model(mesh, part, loose, material, dict.fromkeys(KINDS + damage.KINDS, SMALLEST_MASK))


def _corners(path: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Corners of an OBJ file's faces [M, 3, 3] and their look [M, 3, 6].

    The look is the material's number, linear colour, metallic and roughness.
    """
    import trimesh
    from trimesh.visual.color import uv_to_interpolated_color

    scene = trimesh.load(path, process=False, group_material=True)
    pieces = list(scene.geometry.values()) if hasattr(scene, "geometry") else [scene]
    corners, looks = [], []
    for number, piece in enumerate(pieces):
        material, uv = (getattr(piece.visual, name, None) for name in ("material", "uv"))
        image, diffuse = (getattr(material, name, None) for name in ("image", "diffuse"))
        if image is not None and uv is not None:
            seen = uv_to_interpolated_color(uv, image.convert("RGB"))[:, :3] / 255
        else:
            diffuse = GREY if diffuse is None else diffuse[:3]
            seen = np.tile(np.array(diffuse) / 255, (len(piece.vertices), 1))
        name = str(getattr(material, "name", "")).lower()
        metal = rng.random() < METAL_SHARE or any(word in name for word in BARE_METAL)
        shine = float(getattr(material, "glossiness", 0) or 0)
        rough = np.sqrt(2 / (2 + shine)) if shine > 1 else 0.7  # Phong's exponent as a roughness
        rough = np.clip(rough * np.exp(rng.normal(0, 0.3)), 0.15, 0.9)
        others = np.full((len(seen), 2), (metal, rough))
        look = np.c_[np.full(len(seen), number), seen**GAMMA, others]
        corners.append(piece.vertices[piece.faces])
        looks.append(look[piece.faces])
    return np.concatenate(corners), np.concatenate(looks)


def alike(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each of the rows [N, K] that differ, rounded, occurs first, and which each is, [N]."""
    odd = np.random.default_rng(0).integers(1 << 62, size=values.shape[1]) * 2 + 1
    with np.errstate(over="ignore"):
        key = (np.round(values).astype(np.int64) * odd).sum(1)  # two rows share it by 1 in 2^64
    return np.unique(key, return_index=True, return_inverse=True)[1:]


def welded(points: np.ndarray) -> np.ndarray:
    """Numbers [N] of points [N, 3], alike where they lie in the same place."""
    return alike(points / (WELD * np.ptp(points, 0).max()))[1]


def whole_faces(places: np.ndarray) -> np.ndarray:
    """Numbers of the faces that have an area, of several in the same place (two sides) the first.

    Args:
        places: of the faces' corners, as `welded` numbers them, [M, 3].
    """
    first = np.unique(np.sort(places, 1), axis=0, return_index=True)[1]
    return np.sort(first[(np.roll(places, 1, 1) != places).all(1)[first]])


def parts_of(places: np.ndarray, material: np.ndarray) -> np.ndarray:
    """Numbers [M] of the parts that faces belong to: what hangs together and is of one material.

    Args:
        places: of the faces' corners, as `welded` numbers them, [M, 3].
        material: of the faces, [M].
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # a place is a node of its own for each material
    nodes = places + (places.max() + 1) * material.astype(np.int64)[:, None]
    found, nodes = np.unique(nodes, return_inverse=True)
    nodes = nodes.reshape(places.shape)
    first, second = np.concatenate([nodes[:, [0, 1]], nodes[:, [1, 2]]]).T
    edges = coo_array((np.ones(len(first)), (first, second)), (len(found),) * 2)
    return connected_components(edges, directed=False)[1][nodes[:, 0]]


def corner_normals(corners: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Unit normals [M, 3, 3] at faces' corners, of all faces there that are less than CREASE off.

    Args:
        corners: [M, 3, 3]; places: of them, as `welded` numbers them, [M, 3].
    """
    weighted = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    own = unit(weighted)
    order = np.argsort(places.ravel(), kind="stable")
    face, place = order // 3, places.ravel()[order]
    total = weighted[face].copy()
    for step in range(1, np.bincount(place).max()):  # every pair of corners in one place
        later = (place[step:] == place[:-step]).nonzero()[0] + step
        similar = (own[face[later]] * own[face[later - step]]).sum(1) > np.cos(CREASE)
        later = later[similar]
        total[later] += weighted[face[later - step]]
        total[later - step] += weighted[face[later]]
    normals = np.empty_like(total)
    normals[order] = unit(total)
    return normals.reshape(corners.shape)


def divided(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces [M', 3, K], halved at their longest edge till it is short, and what each was of, [M'].

    Args:
        values: at the faces' corners, first where these are, [M, 3, K]; all are interpolated.
    """
    a, b, c = values[..., :3].transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    longest = max(STEP, np.sqrt(9 * area / MOST_FACES))
    source, done = np.arange(len(values)), []
    while len(values):
        edges = np.linalg.norm(np.roll(values, -1, 1)[..., :3] - values[..., :3], axis=2)
        short = edges.max(1) <= longest
        done.append((values[short], source[short]))
        values, source, edges = values[~short], source[~short], edges[~short]
        turn = (edges.argmax(1)[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(values, turn[..., None], 1).transpose(1, 0, 2)
        middle = (a + b) / 2
        halves = np.stack([a, middle, c], 1), np.stack([middle, b, c], 1)
        values, source = np.concatenate(halves), np.tile(source, 2)
    parts, sources = zip(*done, strict=True)
    return np.concatenate(parts), np.concatenate(sources)


def seen_from_outside(mesh: Mesh, part: np.ndarray, material: dict) -> tuple[Mesh, np.ndarray]:
    """Without the faces that no view shows; what shows its back alone is turned over.

    Args:
        part: of the vertices, [N]; material: options of render.vertex_material.
    Returns:
        The mesh, and the parts of its vertices.
    """
    from scipy.spatial import cKDTree

    stage, tree = Stage([(mesh, vertex_material(**material))]), cKDTree(mesh.vertices)
    front, seen = np.zeros(len(part)), np.zeros(len(part), bool)
    for direction in fibonacci_directions(VIEWS):
        pose = look_at(VIEW_DISTANCE * direction)
        points = stage.places(pose, VIEW_SIZE)
        near = tree.query(points)[1]
        seen[near] = True
        towards = ((pose[:3, 3] - points) * mesh.normals[near]).sum(1)
        front += np.bincount(near, np.sign(towards), len(part))
    for _ in range(2):  # and what lies beside it
        seen[mesh.faces[seen[mesh.faces].any(1)]] = True
    over = (np.bincount(part, front) < 0)[part]
    normals = np.where(over[:, None], -mesh.normals, mesh.normals)
    faces = np.where(over[mesh.faces[:, :1]], mesh.faces[:, ::-1], mesh.faces)
    faces = faces[seen[faces].all(1)]
    used, faces = np.unique(faces, return_inverse=True)
    mesh = Mesh(
        mesh.vertices[used],
        np.ascontiguousarray(faces.reshape(-1, 3), np.uint32),
        normals[used],
        colour=mesh.colour[used],
        metallic=mesh.metallic[used],
        roughness=mesh.roughness[used],
    )
    return mesh, part[used]
