"""Scenes: a class folder in the MAD, MIP or COLMAP layout becomes gallery views and queries.

MAD and MIP: `transforms.json`, the gallery under `train/` (MAD: `train/good/`), queries under
`test/<type>/`, masks under `ground_truth/<type>/`. COLMAP: `images/`, `sparse/0/` instead of the
first two. A type `good` or `good_*` is flawless, every other one anomalous.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.errors import UserError
from gaussian_renderer.points import PointCloud
from piad.colmap import has_colmap_model, read_colmap
from piad.images import ImageCache, list_images, stored_size, work_size
from piad.transforms import (
    ASPECT_TOLERANCE,
    Frame,
    ImageFinder,
    frame_intrinsics,
    has_intrinsics,
    read_transforms,
)
from piad.views import Query, Scene, View, is_normal

LAYOUTS = ("auto", "MAD", "MIP", "COLMAP")
# other names under which the three layouts go
LAYOUT_ALIASES = {name.lower(): name for name in LAYOUTS}
LAYOUT_ALIASES |= {"lego-3d": "MAD", "blender": "MIP", "mip-real": "COLMAP", "real": "COLMAP"}
ALONE = "query"  # type of photographs from outside the data set
RESERVED = ("poses.json", "results.json")  # files beside the photographs' folders
LEAST_SIDE = 0.5  # of the working size; smaller photographs show other features
SEE_LAYOUT = "see data/README.md for the layout"


@dataclass
class DataConfig:
    """Where the images lie and at which size the program works."""

    data_dir: str = field(
        default="data/MIP",
        metadata={"help": "folder that holds one folder per class; its name is the data set's"},
    )
    dataset_type: str = field(
        default="auto",
        metadata={
            "help": "layout of a class folder: MAD, MIP or COLMAP; auto looks at the folder",
            "choices": LAYOUTS,
            "choice_aliases": LAYOUT_ALIASES,
        },
    )
    white_background: bool = field(
        default=False, metadata={"help": "show images with an alpha channel over white, not black"}
    )
    resolution: int = field(
        default=400,
        metadata={"help": "longer side of the working images in pixels; 0: as they are"},
    )
    query_focal_px: float = field(
        default=0.0, metadata={"help": "focal length of the queries, in their own pixels; 0: same"}
    )
    query_fov_x_deg: float = field(
        default=0.0, metadata={"help": "horizontal field of view of the queries; 0: the gallery's"}
    )
    image_cache_mb: int = field(
        default=512, metadata={"help": "memory for decoded images, in megabytes"}
    )

    def __post_init__(self) -> None:
        if self.resolution < 0:
            raise UserError(
                f"resolution must be 0 or positive, got {self.resolution}; correct the config"
            )
        if self.query_focal_px < 0 or not 0 <= self.query_fov_x_deg < 180:
            raise UserError(
                "query_focal_px must not be negative and query_fov_x_deg must lie in 0..180, got "
                f"{self.query_focal_px:g} and {self.query_fov_x_deg:g}; correct the config"
            )


def load_scene(cfg: DataConfig, class_name: str, photographs: Sequence[Path] = ()) -> Scene:
    """Read a class; images are decoded when asked for, their headers are checked here.

    `photographs`, from anywhere, take the place of the class's own queries; they are decoded here.
    """
    root = class_folder(cfg, class_name)
    layout = LAYOUT_ALIASES.get(cfg.dataset_type.lower(), cfg.dataset_type)
    if layout == "auto":
        layout = _detect_layout(root)
    cache = ImageCache(cfg.image_cache_mb << 20)
    points = None
    if layout == "COLMAP":
        gallery, originals, points = _colmap_gallery(root, cfg, cache)
    else:
        gallery, originals = _transforms_gallery(root, cfg, cache)
    common = [size for size, _ in Counter(originals).most_common()]
    if photographs:
        queries = _photographs(root, photographs, cfg, cache, common)
        _check_work_size(queries, gallery[0].camera.intrinsics)
    else:
        queries = _queries(root, cfg, cache, common)
    has_masks = (root / "ground_truth").is_dir()
    return Scene(class_name, layout, gallery, queries, points, root, has_masks)


def class_folder(cfg: DataConfig, class_name: str) -> Path:
    """The folder of a class; UserError naming the folder looked at and the classes there are."""
    data_dir = Path(cfg.data_dir).expanduser()
    if Path(class_name).name != class_name:
        raise UserError(
            f"class_name must be a folder's name, got {class_name!r}; put the path into data_dir"
        )
    if data_dir.name == class_name and _is_class(data_dir):
        return data_dir  # the config names the class folder itself
    if class_name and (root := data_dir / class_name).is_dir():
        return root
    if not data_dir.is_dir():
        raise UserError(
            f"no folder {data_dir} (data_dir) for class {class_name or '(none)'}; put the data "
            f"there or correct data_dir; {SEE_LAYOUT}"
        )
    known = sorted(path.name for path in data_dir.iterdir() if path.is_dir() and _is_class(path))
    near = difflib.get_close_matches(class_name, known, 1, 0.5)
    there = ", ".join(known) if known else "none"
    raise UserError(
        f"no class {class_name or '(none)'} in {data_dir}; there are: {there}; "
        + (f"did you mean {near[0]}?" if near else "correct --class_name or put the data there")
    )


def _is_class(folder: Path) -> bool:
    return (folder / "transforms.json").is_file() or has_colmap_model(folder)


def _detect_layout(root: Path) -> str:
    if (root / "transforms.json").is_file():
        return "MAD" if (root / "train" / "good").is_dir() else "MIP"
    if has_colmap_model(root):
        return "COLMAP"
    raise UserError(f"neither transforms.json nor sparse/0 in {root}; {SEE_LAYOUT}")


def _transforms_gallery(
    root: Path, cfg: DataConfig, cache: ImageCache
) -> tuple[list[View], list[Intrinsics]]:
    """Gallery of transforms.json, and the intrinsics at the images' own sizes."""
    source = root / "transforms.json"
    finder = ImageFinder(root)
    views: list[View] = []
    originals: list[Intrinsics] = []
    for frame in read_transforms(source):
        if frame.file_path.startswith("test/"):
            continue  # some tools list every image; the gallery must stay flawless
        path = finder.find(frame.file_path)
        if path is None:
            raise UserError(
                f"{source} names the image {frame.file_path}, which is not in {root}; "
                "put it back or remove the frame"
            )
        wanted = (frame.fields.get("w"), frame.fields.get("h"))
        size, apply_exif = _orientation(path, wanted, exif_first=True)
        originals.append(frame_intrinsics(source, frame, size))
        camera = Camera.from_opengl(originals[-1], frame.camera_to_world)
        views.append(_view(root, path, camera, cfg, apply_exif, cache))
    _check_gallery(views, source)
    return views, originals


def _colmap_gallery(
    root: Path, cfg: DataConfig, cache: ImageCache
) -> tuple[list[View], list[Intrinsics], PointCloud | None]:
    model = read_colmap(root)
    finder = ImageFinder(root / "images")
    views: list[View] = []
    originals: list[Intrinsics] = []
    for name, camera in model.cameras.items():
        path = finder.find(name, also_in=())
        if path is None:
            raise UserError(
                f"the COLMAP model in {model.folder} has the image {name}, which is not in "
                f"{root / 'images'}; put it back or run COLMAP on the images there are"
            )
        wanted = (camera.intrinsics.width, camera.intrinsics.height)
        size, apply_exif = _orientation(path, wanted, exif_first=False)
        if not _same_aspect(size, wanted):
            raise UserError(
                f"{path} must have the aspect of its COLMAP camera, {wanted[0]} x {wanted[1]}, "
                f"got {size[0]} x {size[1]}; use the images the model was made from"
            )
        originals.append(camera.intrinsics.resized(*size))
        views.append(_view(root, path, camera.resized(*size), cfg, apply_exif, cache))
    _check_gallery(views, model.folder)
    left_out = {path.name for path in list_images(root / "images")} - {v.path.name for v in views}
    if left_out:
        print(
            f"{len(left_out)} of the images in {root / 'images'} are not in the COLMAP model and "
            f"are left out: {', '.join(sorted(left_out)[:5])}{' ...' if len(left_out) > 5 else ''}"
        )
    return views, originals, model.points


def _view(
    root: Path, path: Path, camera: Camera, cfg: DataConfig, apply_exif: bool, cache: ImageCache
) -> View:
    """The view of an image whose camera is given at the image's own size."""
    k = camera.intrinsics
    camera = camera.resized(*work_size((k.width, k.height), cfg.resolution))
    inside = path.relative_to(root) if path.is_relative_to(root) else Path("train", path.name)
    view_id = inside.with_suffix("").as_posix()
    return View(view_id, path, camera, cfg.white_background, apply_exif, cache)


def _check_gallery(views: list[View], source: Path) -> None:
    if not views:
        raise UserError(f"{source} has no gallery image; {SEE_LAYOUT}")
    twice = [name for name, count in Counter(view.id for view in views).items() if count > 1]
    if twice:
        raise UserError(f"{source} has the image {twice[0]} more than once; remove a frame")


def _orientation(
    path: Path, wanted: tuple[object, object], exif_first: bool
) -> tuple[tuple[int, int], bool]:
    """Size of an image and whether its EXIF orientation is applied.

    The orientation whose aspect is that of `wanted` (width, height) is taken; `exif_first` breaks
    the tie. COLMAP estimates cameras from the pixels as stored, NeRF tools from those shown.
    """
    shown, stored = stored_size(path)
    choices = [(shown, True), (stored, False)] if exif_first else [(stored, False), (shown, True)]
    if all(isinstance(side, (int, float)) and side > 0 for side in wanted):
        for choice in choices:
            if _same_aspect(choice[0], wanted):
                return choice
    return choices[0]


def _same_aspect(size: tuple, other: tuple) -> bool:
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1) <= ASPECT_TOLERANCE


def _queries(
    root: Path, cfg: DataConfig, cache: ImageCache, gallery: list[Intrinsics]
) -> list[Query]:
    test = root / "test"
    if not test.is_dir():
        raise UserError(f"no folder test in {root}; {SEE_LAYOUT}")
    if not (types := sorted(p for p in test.glob("[!.]*") if p.is_dir())):
        raise UserError(f"no test/<type> folder in {root}; {SEE_LAYOUT}")
    own = _query_frames(root)
    queries: list[Query] = []
    for folder in types:
        paths = list_images(folder)
        if not paths:
            raise UserError(f"no image in {folder}; add images or remove the folder")
        for path in paths:
            key = f"{folder.name}/{path.stem}"
            if queries and queries[-1].id == key:
                raise UserError(
                    f"{path} has the same name as {queries[-1].path.name}; rename one of them"
                )
            size, work, apply_exif = _pinhole(root, path, cfg, own.get(f"test/{key}"), gallery)
            label = int(not is_normal(folder.name))
            mask = _mask_path(root, folder.name, path, size) if label else None
            how = (cfg.white_background, apply_exif, cache)
            queries.append(Query(key, folder.name, path.stem, path, label, mask, work, *how))
    return queries


def _photographs(
    root: Path, paths: Sequence[Path], cfg: DataConfig, cache: ImageCache, gallery: list[Intrinsics]
) -> list[Query]:
    """Queries without type, label or mask; each is decoded once, so that faults show at once."""
    queries: list[Query] = []
    for path, name in zip(paths, _distinct_names(paths), strict=True):
        if not path.is_file():
            what = "is a folder, not a photograph" if path.is_dir() else "is not there"
            raise UserError(f"{path} {what}; name photographs after --query")
        _, work, apply_exif = _pinhole(root, path, cfg, None, gallery)
        how = (cfg.white_background, apply_exif, cache)
        queries.append(Query(f"{ALONE}/{name}", ALONE, name, path, None, None, work, *how))
        queries[-1].image()
    return queries


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """The stems, numbered where one comes again (also where only upper and lower case differ)."""
    names: list[str] = []
    taken = set(RESERVED)
    for path in paths:
        stem = path.stem.strip(". ") or ALONE  # no name that means a folder above
        count, name = 1, stem
        while name.casefold() in taken:
            count += 1
            name = f"{stem}_{count}"
        names.append(name)
        taken.add(name.casefold())
    return names


def _check_work_size(queries: list[Query], gallery: Intrinsics) -> None:
    """Scores of photographs much smaller than the gallery's don't compare with the threshold."""
    for query in queries:
        own, wanted = (max(k.width, k.height) for k in (query.intrinsics, gallery))
        if own < LEAST_SIDE * wanted:
            raise UserError(
                f"{query.path} must have at least {LEAST_SIDE:.0%} of the working size, "
                f"{wanted} px, got {own} px; take a larger photograph or a smaller resolution"
            )


def _pinhole(
    root: Path, path: Path, cfg: DataConfig, frame: Frame | None, gallery: list[Intrinsics]
) -> tuple[tuple[int, int], Intrinsics, bool]:
    """A query's own (width, height), its pinhole at work resolution, whether EXIF turns it."""
    size, apply_exif = _orientation(path, (gallery[0].width, gallery[0].height), exif_first=True)
    intrinsics = _query_intrinsics(root, path, size, cfg, frame, gallery)
    return size, intrinsics.resized(*work_size(size, cfg.resolution)), apply_exif


def _query_frames(root: Path) -> dict[str, Frame]:
    """Frames of transforms_test.json that say their focal length, by `test/<type>/<stem>`."""
    path = root / "transforms_test.json"
    if not path.is_file():
        return {}
    return {f.stem_path: f for f in read_transforms(path) if has_intrinsics(f.fields)}


def _query_intrinsics(
    root: Path,
    path: Path,
    size: tuple[int, int],
    cfg: DataConfig,
    frame: Frame | None,
    gallery: list[Intrinsics],
) -> Intrinsics:
    """A query's pinhole at its own size: the config's, its frame's, else the gallery's."""
    width, height = size
    if cfg.query_focal_px:
        focal = cfg.query_focal_px
        return Intrinsics(focal, focal, 0.5 * width, 0.5 * height, width, height)
    if cfg.query_fov_x_deg:
        fov_x = math.radians(cfg.query_fov_x_deg)
        return Intrinsics.from_fov_x(fov_x, width, height)
    if frame is not None:
        return frame_intrinsics(root / "transforms_test.json", frame, size)
    for known in sorted(gallery, key=lambda k: (k.width, k.height) != size):
        if _same_aspect(size, (known.width, known.height)):
            return known.resized(width, height)
    for known in gallery:
        if _same_aspect(size, (known.height, known.width)):  # the camera held upright
            turned = Intrinsics(known.fy, known.fx, known.cy, known.cx, known.height, known.width)
            return turned.resized(width, height)
    raise UserError(
        f"{path} must have the gallery's aspect, {gallery[0].width} x {gallery[0].height}, got "
        f"{width} x {height}; give query_fov_x_deg or query_focal_px in the config"
    )


def _mask_path(root: Path, defect_type: str, path: Path, size: tuple[int, int]) -> Path | None:
    """Mask of an anomalous query; None when the class has no ground truth at all."""
    if not (root / "ground_truth").is_dir():
        return None
    folder = root / "ground_truth" / defect_type
    candidates = [folder / f"{path.stem}{end}" for end in (".png", "_mask.png")]
    found = next((mask for mask in candidates if mask.is_file()), None)
    if found is None:
        raise UserError(
            f"no mask {candidates[0]} (or {candidates[1].name}) for the anomalous query {path}; "
            "add it, or remove ground_truth for image-level scores only"
        )
    if not any(_same_aspect(mask_size, size) for mask_size in stored_size(found)):
        shown = stored_size(found)[0]
        raise UserError(
            f"the mask {found} must have the aspect of its query, {size[0]} x {size[1]}, got "
            f"{shown[0]} x {shown[1]}; draw it on the query image"
        )
    return found
