"""A query becomes a start pose.

Ours: the views that look most like the query (photographs, and renderings between them) give
candidate poses. They are aligned with the query by small models, coarse to fine, and the most alike
at full size wins. Where none is alike enough, matches with the best photographs, lifted by rendered
depth, give more candidates by PnP. Distinct poses are kept as hypotheses.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
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
from retrieval.framing import GalleryFraming, Photograph
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
QUERIES_AT_ONCE = {"cuda": 32}  # that are searched together; elsewhere one after the other
ALPHAS_AT_ONCE = 32  # views
OTHER_DISTANCES = (0.65, 1.55)  # times the gallery's: tried where no view is similar
SIMILAR_VIEW = 0.45  # where the best view is less similar, the distance is in question
CONSIDERED = 40  # most similar views for each candidate wanted: many lie close together

Order = list[tuple[int, int]]  # (rotation, view) pairs, most similar first


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
        self.centre = object_centre(self.cameras)
        self.search = Search(
            self.gaussians,
            small_models(
                self.gaussians, self.views, cfg.start_compare_px, cfg.start_model_steps, path
            ),
            self.centre,
            cfg.start_aligned,
            cfg.start_align_steps,
        )
        self.framing = GalleryFraming(*self._alphas())

    @torch.no_grad()
    def _alphas(self) -> tuple[Tensor, Intrinsics]:
        """Coverage [V, 1, h, w] of the finest small model at all views, and its pinhole."""
        model = self.search.models[-1]
        pinhole = self.search.pinhole(self.intrinsics, model, 1.0)
        poses = torch.stack([view.world_to_camera for view in self.views])
        viewmats = poses.to(self.device, torch.float32)
        parts = [
            render(model.gaussians, Camera(pinhole, poses[0]), viewmat=some).alpha
            for some in viewmats.split(ALPHAS_AT_ONCE)
        ]
        return torch.cat(parts), pinhole

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
        queries = [
            Photograph.plain(
                *(None if x is None else x.to(self.device, torch.float32) for x in one[:3]), one[3]
            )
            for one in zip(images, reflectances, silhouettes, intrinsics, strict=True)
        ]
        if self.cfg.initial_pose == "original":
            return [self._papers_way(query) for query in queries]
        found = self._searched(*self._ranked([self.framing.fitted(query) for query in queries]))
        return [self._decide(some) for some in found]

    def _papers_way(self, query: Photograph) -> StartPose:
        small = self.small_gallery.to(query.image)
        return original_start_pose(query.image, self.matcher, self.cameras, small, self.gallery)

    def _ranked(self, queries: list[Photograph]) -> tuple[list[Photograph], list[Order]]:
        """The queries, and of each (rotation, view) pairs, most similar first.

        Views are similar at the gallery's distance alone. A query without silhouette that is
        similar to none is therefore tried at others.
        """
        tables = self._tables(queries)
        unsure = [
            i
            for i, table in enumerate(tables)
            if table.max() < SIMILAR_VIEW and queries[i].silhouette is None
        ]
        queries = list(queries)
        for zoom in OTHER_DISTANCES:
            tried = [queries[i].framed(zoom) for i in unsure]
            for i, query, table in zip(unsure, tried, self._tables(tried), strict=True):
                if table.max() > tables[i].max():
                    queries[i], tables[i] = query, table
        orders = [table.flatten().argsort(descending=True).tolist() for table in tables]
        num_views = len(self.views)
        return queries, [[divmod(index, num_views) for index in order] for order in orders]

    @torch.no_grad()
    def _tables(self, queries: list[Photograph]) -> list[Tensor]:
        """Similarities of each query, turned by each angle, with the views: [R, V] on the CPU."""
        found: dict[int, Tensor] = {}
        for rows in self._batches([query.at_gallerys_distance for query in queries]):
            some = [queries[i] for i in rows]
            seen = [q.reflectance if self.has_reflectance else q.image for q in some]
            pinhole = some[0].at_gallerys_distance
            tables = self.shortlist.similarities(torch.stack(seen), pinhole).cpu()
            found |= zip(rows, tables, strict=True)
        return [found[i] for i in range(len(queries))]

    def _batches(self, kinds: Sequence[Hashable]) -> list[list[int]]:
        """Which of the queries of one kind go together."""
        same: dict[Hashable, list[int]] = {}
        for i, kind in enumerate(kinds):
            same.setdefault(kind, []).append(i)
        size = QUERIES_AT_ONCE.get(self.device.type, 1)
        return [rows[i : i + size] for rows in same.values() for i in range(0, len(rows), size)]

    def _searched(self, queries: list[Photograph], orders: list[Order]) -> list[list[Hypothesis]]:
        """Hypotheses of each query, best first."""
        found: dict[int, list[Hypothesis]] = {}
        kinds = [(query.intrinsics, query.zoom, query.silhouette is None) for query in queries]
        for rows in self._batches(kinds):
            together = self._searched_together(
                *([some[i] for i in rows] for some in (queries, orders))
            )
            for i, some in zip(rows, together, strict=True):
                back = queries[i].turn.T
                found[i] = [replace(h, world_to_camera=back @ h.world_to_camera) for h in some]
        return [found[i] for i in range(len(queries))]

    def _searched_together(
        self, queries: list[Photograph], orders: list[Order]
    ) -> list[list[Hypothesis]]:
        """Hypotheses of queries of one pinhole and zoom, in the coordinates of their images."""
        images, reflectances = (
            torch.stack([getattr(query, name) for query in queries])
            for name in ("image", "reflectance")
        )
        first = queries[0]
        shapes = None
        if first.silhouette is not None:
            shapes = torch.stack([query.silhouette for query in queries])
        whole = torch.cat([images, reflectances], 1) if self.has_reflectance else images
        sought = SearchQueries(whole, shapes, first.intrinsics, first.zoom)
        search = self.search
        found = search.best([self._from_shortlist(order, first.zoom) for order in orders], sought)
        found = search.explored(found, sought)
        if self.cfg.match_views == 0:
            return found
        matched = [
            self._from_matches(order, image, first)
            if some[0].similarity < self.cfg.start_sure
            else []
            for some, order, image in zip(found, orders, images, strict=True)
        ]
        more = search.explored(search.best(matched, sought, MATCHES_FROM), sought)
        return [
            sorted(some + others, key=lambda h: -h.similarity)
            for some, others in zip(found, more, strict=True)
        ]

    def _from_shortlist(self, order: Order, zoom: float) -> list[Hypothesis]:
        """Poses of the most similar views that differ from each other, `zoom` times as far."""
        count = self.cfg.start_candidates
        rotations, views = zip(*order[: CONSIDERED * count], strict=True)
        poses = self.shortlist.candidates[rotations, views]
        kept = distinct_rows(poses[:, :3, :3].numpy(), SAME_SIDE_DEG, count)
        if zoom != 1:
            pivots = poses[:, :3, :3] @ self.centre + poses[:, :3, 3]
            poses[:, :3, 3] += (zoom - 1) * pivots
        return [Hypothesis(poses[i], 0.0, 0, views[i], "shortlist") for i in kept]

    def _from_matches(self, order: Order, image: Tensor, query: Photograph) -> list[Hypothesis]:
        """Poses by PnP from matches with the most similar photographs."""
        intrinsics = query.intrinsics
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
