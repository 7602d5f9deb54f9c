"""One query against its flawless rendering: the comparison, kept on disk until an input changes."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gaussian_renderer.camera import Camera
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import atomic_path
from piad.anomaly import DetectConfig, Features
from piad.anomaly_map import image_scores
from piad.fingerprint import query_fingerprint
from piad.scenes import Query
from piad.scoring import Shot, anomalies_at, batch_size, batches, close_up, image_size

if TYPE_CHECKING:
    from piad.change_net import ChangeNet
    from piad.detail import GalleryDetail
    from piad.models import ModelPair
    from piad.normality import Normality
    from piad.poses import PoseStore

OK, NOT_FOUND = "ok", "not_found"
SIDE_TOP = 1.0  # percent of the pixels by whose mean two sides are told apart
METHOD_VERSION = 15  # raise when the comparison's code gives other maps from the same inputs


@dataclass(frozen=True)
class Comparison:
    """What comparing one query gave; the map and the rendering stay on disk.

    Without a pose (`status` not_found) there is neither score nor file. pose: camera_to_world
    [4][4], OpenGL axes, at which it was compared.
    """

    query: Query
    status: str
    score: float | None
    file: Path | None
    light: str | None = None
    pose: list | None = None

    def map(self) -> np.ndarray:
        """Anomaly scores, float32 [H, W]; zeros where no pose was found: nothing is marked."""
        if self.file is None:
            size = self.query.intrinsics
            return np.zeros((size.height, size.width), dtype=np.float32)
        with np.load(self.file, allow_pickle=False) as content:
            return content["map"]

    def rendering(self) -> np.ndarray | None:
        """The flawless rendering, uint8 [H, W, 3]; None where no pose was found."""
        if self.file is None:
            return None
        with np.load(self.file, allow_pickle=False) as content:
            return content["rendering"]


@dataclass(frozen=True, eq=False)
class Job:
    """A query with its reflectance image, to be compared at its record in poses.json."""

    query: Query
    reflectance: Query
    record: dict
    light: str | None = None

    @property
    def poses(self) -> list[list]:
        """camera_to_world [4][4], OpenGL axes: none where none was found, two where the query looks
        about alike from two sides."""
        if self.record.get("status") == NOT_FOUND:
            return []
        found = (self.record.get(f"{kind}camera_to_world") for kind in ("", "rival_"))
        return [pose for pose in found if pose is not None]

    @property
    def cameras(self) -> list[Camera]:
        """The camera at each pose."""
        return [
            Camera.from_opengl(self.query.intrinsics, torch.tensor(pose, dtype=torch.float64))
            for pose in self.poses
        ]

    def shots(self, detail: GalleryDetail | None) -> list[Shot]:
        """What is compared, at each pose."""
        images = self.query.image(), self.reflectance.image()
        return [Shot(camera, *images, detail) for camera in self.cameras]


class Comparer:
    """Renders each query's flawless image from both models and compares; keeps what is done."""

    def __init__(
        self,
        models: ModelPair,
        models_id: str,
        net: Features,
        cfg: DetectConfig,
        folder: Path,
        normality: Normality | None = None,
        detail: GalleryDetail | None = None,
        change: ChangeNet | None = None,
    ) -> None:
        """
        Args:
            models_id: tells one pair of trained models from another.
            folder: keeps the maps.
            normality: what flawless photographs show; None takes distances as they are.
            detail: what the gallery's photographs lend the renderings; None: nothing.
            change: net whose map is added to the distances; None: none.
        """
        self.models, self.net, self.cfg, self.folder = models, net, cfg, folder
        self.normality, self.detail, self.change = normality, detail, change
        known = [part and part.fingerprint for part in (normality, change)]
        self.settings = [METHOD_VERSION, models_id, net.name, asdict(cfg), known]

    def compare(
        self,
        query: Query,
        reflectance: Query,
        record: dict,
        light: str | None = None,
    ) -> Comparison:
        """Compare a query at the pose of its record in poses.json.

        Args:
            query, reflectance: the photograph and its reflectance image.
            record: `status` and `camera_to_world` [4][4], OpenGL axes.
            light: name of the lamps, for the report.
        """
        return self.compare_batch([Job(query, reflectance, record, light)])[0]

    def compare_batch(self, jobs: Sequence[Job]) -> list[Comparison]:
        """Compare queries of one size at once; what is kept on disk is not compared again.

        A query with a rival pose is compared at both, and the one that leaves less to explain
        counts: a flawless object seen from the wrong side differs where nothing is wrong, and in
        more places than a defect does (`SIDE_TOP`).
        """
        found = [self._kept(job) for job in jobs]
        todo = [k for k, comparison in enumerate(found) if comparison is None]
        if todo:
            shots = [jobs[k].shots(self.detail) for k in todo]
            judge = self.net, self.cfg, self.normality, self.change
            maps, renderings, counted = anomalies_at(self.models, sum(shots, []), *judge)
            differs = image_scores(maps, replace(self.cfg, detect_top=SIDE_TOP))
            content = image_scores(counted, self.cfg), differs, maps, _bytes(renderings)
            sides = (part.cpu().split([len(own) for own in shots]) for part in content)
            for k, scores, differences, own_maps, drawn in zip(todo, *sides, strict=True):
                path, key = self._place(jobs[k])
                side = int(differences.argmin())
                score = float(scores[side])
                _keep(path, key, score, side, own_maps[side].numpy(), drawn[side].numpy())
                found[k] = _compared(jobs[k], score, side, path)
        return found

    def sizes(self, job: Job) -> tuple[tuple[int, int], ...]:
        """Sizes of a query and of the parts of it that are compared, px."""
        parts = (close_up(self.models, camera, self.cfg).size for camera in job.cameras)
        return image_size(job.query.intrinsics), *parts

    def _kept(self, job: Job) -> Comparison | None:
        """The comparison of a query that has no pose or that was compared before."""
        if not job.poses:
            return Comparison(job.query, NOT_FOUND, None, None, job.light)
        path, key = self._place(job)
        kept = _load(path, key)
        return None if kept is None else _compared(job, *kept, path)

    def _place(self, job: Job) -> tuple[Path, str]:
        """The file of a query's map, and the key of what it depends on."""
        path = self.folder / job.query.type / f"{job.query.stem}.npz"
        return path, self._key(job.query, job.reflectance, job.poses)

    def _key(self, query: Query, reflectance: Query, poses: list[list]) -> str:
        inputs = [query_fingerprint(query), query_fingerprint(reflectance), poses]
        text = json.dumps([self.settings, inputs], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def compare_all(
    comparer: Comparer,
    pairs: list[tuple[Query, Query]],
    records: PoseStore | Mapping[str, dict],
    lights: Mapping[str, str],
    progress: Callable[[list], Iterable] = iter,
) -> list[Comparison]:
    """Compare every query (with its reflectance image) at its record's poses, paired by id."""
    missing = [query.id for query, _ in pairs if query.id not in records]
    if missing:
        raise UserError(
            f"poses.json has no pose for {len(missing)} of {len(pairs)} queries, the first is "
            f"{missing[0]}; run pose_estimation.py to its end first"
        )
    jobs = [
        Job(query, reflectance, records[query.id], lights.get(query.id))
        for query, reflectance in pairs
    ]
    order = sorted(jobs, key=comparer.sizes)  # close-ups of one size are compared at once
    size = batch_size(comparer.models.background.device)
    found = {
        comparison.query.id: comparison
        for batch in batches(progress(order), size, lambda job: image_size(job.query.intrinsics))
        for comparison in comparer.compare_batch(batch)
    }
    return [found[job.query.id] for job in jobs]


def pair_by_id(queries: list[Query], reflectance: list[Query]) -> list[tuple[Query, Query]]:
    """Each query with the reflectance image of the same id."""
    by_id = {query.id: query for query in reflectance}
    missing = [query.id for query in queries if query.id not in by_id]
    if missing:
        raise UserError(
            f"no reflectance image for query {missing[0]}; run pose_estimation.py again"
        )
    return [(query, by_id[query.id]) for query in queries]


def _compared(job: Job, score: float, side: int, path: Path) -> Comparison:
    """What comparing a job gave, at the pose of that number."""
    return Comparison(job.query, OK, score, path, job.light, job.poses[side])


def _load(path: Path, key: str) -> tuple[float, int] | None:
    """The score kept in `path`, and at which pose, if it was made from the same inputs."""
    try:
        with np.load(path, allow_pickle=False) as content:
            same = str(content["key"]) == key
            return (float(content["score"]), int(content["side"])) if same else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # not made yet, or not by us: it is made anew


def _bytes(images: Tensor) -> Tensor:
    """Images [B, 3, H, W], 0..1, as uint8 [B, H, W, 3]."""
    return images.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)


def _keep(
    path: Path, key: str, score: float, side: int, scores: np.ndarray, rendering: np.ndarray
) -> None:
    numbers = {"key": np.array(key), "score": np.array(score), "side": np.array(side)}
    with atomic_path(path) as temporary:
        np.savez(temporary, **numbers, map=scores, rendering=rendering)
