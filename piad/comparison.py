"""One query against its flawless rendering: the comparison, kept on disk until an input changes."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gaussian_renderer.camera import Camera
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import atomic_path
from piad.anomaly import DetectConfig, Features, image_score
from piad.fingerprint import query_fingerprint
from piad.scenes import Query
from piad.scoring import anomaly_at

if TYPE_CHECKING:
    from piad.detail import GalleryDetail
    from piad.models import ModelPair
    from piad.normality import Normality
    from piad.poses import PoseStore

OK, NOT_FOUND = "ok", "not_found"
METHOD_VERSION = 4  # raise when the comparison's code gives other maps from the same inputs


@dataclass(frozen=True)
class Comparison:
    """What comparing one query gave; the map and the rendering stay on disk.

    Without a pose (`status` not_found) there is neither score nor file.
    """

    query: Query
    status: str
    score: float | None
    file: Path | None
    light: str | None = None

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
    ) -> None:
        """
        Args:
            models_id: tells one pair of trained models from another.
            folder: keeps the maps.
            normality: what flawless photographs show; None takes distances as they are.
            detail: what the gallery's photographs lend the renderings; None: nothing.
        """
        self.models, self.net, self.cfg, self.folder = models, net, cfg, folder
        self.normality, self.detail = normality, detail
        known = None if normality is None else normality.fingerprint
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
        pose = record.get("camera_to_world")
        if record.get("status") == NOT_FOUND or pose is None:
            return Comparison(query, NOT_FOUND, None, None, light)
        path = self.folder / query.type / f"{query.stem}.npz"
        key = self._key(query, reflectance, pose)
        score = _kept_score(path, key)
        if score is None:
            scores, rendering = self._compare(query, reflectance, pose)
            score = image_score(scores, self.cfg)
            _keep(path, key, score, scores, rendering)
        return Comparison(query, OK, score, path, light)

    def _compare(self, query: Query, reflectance: Query, pose: list) -> tuple[Tensor, Tensor]:
        """Anomaly map [H, W] and rendering [3, H, W]."""
        camera = Camera.from_opengl(query.intrinsics, torch.tensor(pose, dtype=torch.float64))
        photos = query.image(), reflectance.image()
        lent = None if self.detail is None else self.detail.at
        judge = self.net, self.cfg, self.normality, lent
        return anomaly_at(self.models, camera, *photos, *judge)

    def _key(self, query: Query, reflectance: Query, pose: list) -> str:
        inputs = [query_fingerprint(query), query_fingerprint(reflectance), pose]
        text = json.dumps([self.settings, inputs], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def compare_all(
    comparer: Comparer,
    pairs: list[tuple[Query, Query]],
    records: PoseStore | Mapping[str, dict],
    lights: Mapping[str, str],
    progress: Callable[[list], Iterable] = iter,
) -> list[Comparison]:
    """Compare every query (with its reflectance image) at its record's pose, paired by id."""
    missing = [query.id for query, _ in pairs if query.id not in records]
    if missing:
        raise UserError(
            f"poses.json has no pose for {len(missing)} of {len(pairs)} queries, the first is "
            f"{missing[0]}; run pose_estimation.py to its end first"
        )
    return [
        comparer.compare(query, reflectance, records[query.id], lights.get(query.id))
        for query, reflectance in progress(pairs)
    ]


def pair_by_id(queries: list[Query], reflectance: list[Query]) -> list[tuple[Query, Query]]:
    """Each query with the reflectance image of the same id."""
    by_id = {query.id: query for query in reflectance}
    missing = [query.id for query in queries if query.id not in by_id]
    if missing:
        raise UserError(
            f"no reflectance image for query {missing[0]}; run pose_estimation.py again"
        )
    return [(query, by_id[query.id]) for query in queries]


def _kept_score(path: Path, key: str) -> float | None:
    """The score kept in `path` if it was made from the same inputs."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return float(content["score"]) if str(content["key"]) == key else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # not made yet, or not by us: it is made anew


def _keep(path: Path, key: str, score: float, scores: Tensor, rendering: Tensor) -> None:
    pixels = rendering.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            key=np.array(key),
            score=np.array(score),
            map=scores.float().cpu().numpy(),
            rendering=pixels.cpu().numpy(),
        )
