"""A query becomes a start pose.

Ours: the views that look most like the query (photographs, and renderings between them) give
candidate poses. They are aligned with the query by small models, coarse to fine, and the most alike
at full size wins. Where none is alike enough, matches with the best photographs, lifted by rendered
depth, give more candidates by PnP. Distinct poses are kept as hypotheses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from EfficientLoFTR import CheckpointError, Features, load_matcher
from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.errors import UserError
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.render import render
from retrieval.cache import cached_features, signature_of
from retrieval.config import InitialPoseConfig
from retrieval.model.feature_net import FeatureNet
from retrieval.original import original_start_pose, shrink
from retrieval.pnp import pose_from_matches
from retrieval.search import SAME_SIDE_DEG, Search, SearchQueries, distinct, distinct_rows
from retrieval.shortlist import DESCRIBE_PX, Shortlist
from retrieval.small_models import small_models
from retrieval.start_pose import Hypothesis, StartPose
from retrieval.views import object_centre, views_between
from retrieval.warp import fitted, homography, map_points, warp

DISTINCT_DEG = 15.0  # hypotheses handed on differ by more than this
MATCHES_FROM = 2  # index of the resolution where poses by matches join: they are close, or lost
QUERIES_AT_ONCE = {"cuda": 16}  # that are searched together; elsewhere one after the other
CONSIDERED = 40  # most similar views for each candidate wanted: many lie close together


class PoseInitialiser:
    """Everything about a gallery that is needed to find start poses; built once per object."""

    def __init__(
        self,
        cameras: Sequence[Camera],
        images: Sequence[Tensor] | Tensor,
        reflectance: Sequence[Tensor] | Tensor,
        gaussians: GaussianModel | None,
        cfg: InitialPoseConfig,
        cache_dir: Path | str | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """
        Args:
            cameras: of the gallery, one size.
            images, reflectance: the photographs and their reflectance, [3, H, W] each.
            gaussians: the object's model: six channels (colour, then reflectance) or three
                (colour; reflectance is not used then). Not needed (None) for the paper's way.
            cache_dir: folder for gallery features; None keeps them in memory only.
        """
        if not cameras or not len(cameras) == len(images) == len(reflectance):
            raise UserError(
                f"a gallery needs as many images as poses, found {len(cameras)} poses, "
                f"{len(images)} photographs, {len(reflectance)} reflectance images; "
                "make the reflectance images again"
            )
        self.cfg, self.device = cfg, torch.device(device)
        self.cameras = list(cameras)
        self.cache_dir = Path(cache_dir) if cache_dir is not None else None
        self.intrinsics = cameras[0].intrinsics
        self.weights: dict[str, str] = {}
        photographs = torch.stack(list(images))
        reflectances = torch.stack(list(reflectance))
        content = signature_of(photographs, reflectances)
        self.matcher = None
        if cfg.initial_pose == "original" or cfg.match_views > 0:
            self._load_matcher()
            self.gallery = self._encode_gallery(photographs, content)
        if cfg.initial_pose == "original":
            self.small_gallery = shrink(photographs)
            return
        if gaussians is None:
            raise UserError(
                "initial_pose = ours compares renderings and needs the object's model; "
                "fit it first, or choose initial_pose = original"
            )
        self.gaussians = gaussians.detach().to(self.device)
        self.depths: dict[int, tuple[Tensor, Tensor]] = {}
        self.has_reflectance = gaussians.num_channels == 6
        self._fill_shortlist(reflectances if self.has_reflectance else photographs, content)
        path = self.cache_dir / "small_models.safetensors" if self.cache_dir else None
        self.search = Search(
            self.gaussians,
            small_models(
                self.gaussians, self.views, cfg.start_compare_px, cfg.start_model_steps, path
            ),
            object_centre(self.cameras),
            cfg.start_aligned,
            cfg.start_align_steps,
        )

    def _load_matcher(self) -> None:
        try:
            self.matcher = load_matcher(
                self.cfg.matcher,
                checkpoint=self.cfg.matcher_checkpoint or None,
                device=self.device,
                size=self.cfg.matcher_size,
                num_points=self.cfg.matcher_points,
            )
        except CheckpointError as error:
            raise UserError(str(error)) from error
        self.weights["matcher"] = self.matcher.name

    def _encode_gallery(self, photographs: Tensor, content: str) -> list[Features]:
        def encode() -> list[Features]:
            return [f for batch in photographs.split(8) for f in self.matcher.encode(batch)]

        path = self.cache_dir / "gallery_matching.safetensors" if self.cache_dir else None
        if not self.matcher.storable:
            path = None
        kept = cached_features(path, f"{self.matcher.signature} {content}", encode)
        return [{name: tensor.to(self.device) for name, tensor in one.items()} for one in kept]

    def _fill_shortlist(self, gallery: Tensor, content: str) -> None:
        cfg = self.cfg
        net = FeatureNet.load(
            cfg.start_features, cfg.start_feature_weights or None, device=self.device
        )
        self.weights["start_features"] = net.name
        self.shortlist = Shortlist(net, self.intrinsics, cfg.start_rotations, self.device)
        between = views_between(self.cameras, cfg.start_virtual_views)
        small = fitted(self.intrinsics, DESCRIBE_PX)

        def describe() -> list[Features]:
            photographs = self.shortlist.describe(gallery)
            with torch.no_grad():
                drawn = [
                    self._draw(camera.resized(small.width, small.height)) for camera in between
                ]
            rendered = self.shortlist.describe(torch.stack(drawn)) if drawn else []
            levels = (
                [torch.cat(pair) for pair in zip(photographs, rendered, strict=True)]
                if (drawn)
                else photographs
            )
            return [{"map": level.half()} for level in levels]

        model = signature_of(*self.gaussians.tensors().values()) if between else ""
        settings = (net.name, cfg.start_virtual_views, DESCRIBE_PX)
        signature = signature_of(content, model, settings, *net.state_dict().values())
        path = self.cache_dir / "gallery_shortlist.safetensors" if self.cache_dir else None
        kept = cached_features(path, signature, describe)
        self.views = self.cameras + between
        self.shortlist.fill(self.views, [one["map"].to(self.device).float() for one in kept])

    def _draw(self, camera: Camera) -> Tensor:
        """What the shortlist sees: the model's reflectance, or else colour, [3, H, W], 0..1."""
        return render(self.gaussians, camera).image[-3:].clamp(0, 1)

    def locate(
        self,
        image: Tensor,
        reflectance: Tensor,
        intrinsics: Intrinsics,
        silhouette: Tensor | None = None,
    ) -> StartPose:
        """Start pose of one query.

        Args:
            image, reflectance: [3, H, W], 0..1, at the size of `intrinsics`.
            intrinsics: the query's own; they may differ from the gallery's.
            silhouette: [1, H, W], 1 on the object and 0 on the backdrop, where that is plain.
        """
        return self.locate_many([image], [reflectance], [intrinsics], [silhouette])[0]

    def locate_many(
        self,
        images: Sequence[Tensor],
        reflectances: Sequence[Tensor],
        intrinsics: Sequence[Intrinsics],
        silhouettes: Sequence[Tensor | None],
    ) -> list[StartPose]:
        """Start poses of queries, of each as `locate` finds it.

        On a GPU those of one pinhole share its launches, so many take little more time than one.
        """
        kinds: dict[tuple, list[int]] = {}
        for i, (pinhole, silhouette) in enumerate(zip(intrinsics, silhouettes, strict=True)):
            kinds.setdefault((pinhole, silhouette is None), []).append(i)
        found: dict[int, StartPose] = {}
        for same in kinds.values():
            size = QUERIES_AT_ONCE.get(self.device.type, 1)
            for rows in (same[i : i + size] for i in range(0, len(same), size)):
                image, reflectance, silhouette = (
                    None if some[rows[0]] is None else self._stacked(some, rows)
                    for some in (images, reflectances, silhouettes)
                )
                poses = self._locate(image, reflectance, intrinsics[rows[0]], silhouette)
                found |= zip(rows, poses, strict=True)
        return [found[i] for i in range(len(images))]

    def _stacked(self, tensors: Sequence[Tensor], rows: list[int]) -> Tensor:
        return torch.stack([tensors[i].to(self.device, torch.float32) for i in rows])

    def _locate(
        self,
        images: Tensor,
        reflectances: Tensor,
        intrinsics: Intrinsics,
        silhouettes: Tensor | None,
    ) -> list[StartPose]:
        """Start poses of queries [Q, 3, H, W] of one pinhole."""
        if self.cfg.initial_pose == "original":
            small = self.small_gallery.to(images)
            return [
                original_start_pose(image, self.matcher, self.cameras, small, self.gallery)
                for image in images
            ]
        seen = reflectances if self.has_reflectance else images
        whole = torch.cat([images, reflectances], 1) if self.has_reflectance else images
        queries = SearchQueries(whole, silhouettes, intrinsics)
        orders = self._ranked_views(seen, intrinsics)
        search = self.search
        found = search.best([self._from_shortlist(order) for order in orders], queries)
        found = search.explored(found, queries)
        if self.cfg.match_views > 0:
            matched = [
                self._from_matches(order, image, intrinsics)
                if some[0].similarity < self.cfg.start_sure
                else []
                for some, order, image in zip(found, orders, images, strict=True)
            ]
            more = search.explored(search.best(matched, queries, MATCHES_FROM), queries)
            found = [
                sorted(some + others, key=lambda h: -h.similarity)
                for some, others in zip(found, more, strict=True)
            ]
        return [self._decide(some) for some in found]

    @torch.no_grad()
    def _ranked_views(self, seen: Tensor, intrinsics: Intrinsics) -> list[list[tuple[int, int]]]:
        """Of each query [Q, 3, H, W] (rotation, view) pairs, most similar first."""
        tables = self.shortlist.similarities(seen, intrinsics).cpu()
        orders = tables.flatten(1).argsort(dim=1, descending=True).tolist()
        return [[divmod(index, tables.shape[2]) for index in order] for order in orders]

    def _from_shortlist(self, order: list[tuple[int, int]]) -> list[Hypothesis]:
        """Poses of the most similar views that differ from each other."""
        count = self.cfg.start_candidates
        rotations, views = zip(*order[: CONSIDERED * count], strict=True)
        poses = self.shortlist.candidates[rotations, views]
        kept = distinct_rows(poses[:, :3, :3].numpy(), SAME_SIDE_DEG, count)
        return [Hypothesis(poses[i], 0.0, 0, views[i], "shortlist") for i in kept]

    def _from_matches(
        self, order: list[tuple[int, int]], image: Tensor, intrinsics: Intrinsics
    ) -> list[Hypothesis]:
        """Poses by PnP from matches with the most similar photographs."""
        chosen: dict[int, list[int]] = {}
        seen: set[int] = set()
        for rotation, view in order:
            if view < len(self.cameras) and view not in seen:
                seen.add(view)
                chosen.setdefault(rotation, []).append(view)
            if len(seen) == self.cfg.match_views:
                break
        found = []
        for rotation, views in chosen.items():
            matrix = homography(intrinsics, intrinsics, self.shortlist.angles[rotation])
            turned = image
            if rotation:
                turned = warp(image, matrix, intrinsics.height, intrinsics.width)
            features = self.matcher.encode(turned[None])[0]
            results = self.matcher.match_many(features, [self.gallery[v] for v in views])
            for view, matches in zip(views, results, strict=True):
                if rotation:
                    matches.points_a = map_points(torch.linalg.inv(matrix), matches.points_a)
                depth, alpha = self._depth(view)
                result = pose_from_matches(matches, self.cameras[view], depth, alpha, intrinsics)
                if result is not None:
                    pose = result.world_to_camera
                    found.append(Hypothesis(pose, 0.0, result.num_inliers, view, "matches"))
        return found

    @torch.no_grad()
    def _depth(self, view: int) -> tuple[Tensor, Tensor]:
        """Depth and alpha [1, H, W] at a gallery camera, rendered once."""
        if view not in self.depths:
            drawn = render(self.gaussians, self.cameras[view])
            self.depths[view] = (drawn.depth, drawn.alpha)
        return self.depths[view]

    def _decide(self, found: list[Hypothesis]) -> StartPose:
        """The start pose with its alternatives, and whether anything supports it."""
        cfg = self.cfg
        near = [h for h in found if h.similarity >= found[0].similarity - cfg.start_spread]
        kept = distinct(near, DISTINCT_DEG, cfg.start_hypotheses)
        best = kept[0]
        margin = best.similarity - kept[1].similarity if len(kept) > 1 else 1.0
        supported = best.similarity >= cfg.start_min_similarity
        message = ""
        if not supported:
            message = (
                f"similarity {best.similarity:.2f} with the best rendering is below "
                f"start_min_similarity = {cfg.start_min_similarity:g}"
            )
        elif margin < cfg.start_min_margin:
            message = f"two sides look alike (similarity differs by {margin:.3f})"
        view = best.gallery_index
        return StartPose(
            world_to_camera=best.world_to_camera,
            num_inliers=best.num_inliers,
            confidence=max(0.0, min(1.0, best.similarity)),
            status="ok" if supported else "not_found",
            hypotheses=kept,
            gallery_index=view if view < len(self.cameras) else self._nearest_photograph(best),
            margin=margin,
            message=message,
        )

    def _nearest_photograph(self, hypothesis: Hypothesis) -> int:
        turns = self.shortlist.candidates[0, : len(self.cameras), :3, :3]
        traces = (turns * hypothesis.world_to_camera[:3, :3]).sum((1, 2))
        return int(traces.argmax())  # the larger, the smaller the angle
