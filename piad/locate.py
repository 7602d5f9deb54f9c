"""Every query gets a start pose, a refined pose and its flawless renderings."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaussian_renderer.camera import opencv_to_opengl, rigid_inverse
from piad.cli import progress
from piad.features import load_features
from piad.fingerprint import gallery_fingerprint, query_fingerprint
from piad.lent_detail import LentDetail, lent_detail
from piad.models import ModelPair, models_fingerprint
from piad.pose import RefinedPose, refine_poses
from piad.query_images import write_query_images
from piad.refusal import Verdict, gallery_agreement, judge
from piad.target import Target
from piad.turns import object_turns, refine_turned
from retrieval import PoseInitialiser, StartPose

if TYPE_CHECKING:
    from pathlib import Path

    from piad.config import Config
    from piad.refine_config import RefineConfig
    from piad.run_folder import RunFolder
    from piad.scenes import Query, Scene
    from retrieval import InitialPoseConfig

VERSION = 12  # raise when the same inputs give other records


def make_target(query: Query, reflectance_query: Query, device: torch.device) -> Target:
    """A query's colour and reflectance at work resolution; backdrop and silhouette when plain."""
    image = torch.cat([query.image(), reflectance_query.image()]).to(device)
    return Target.of(image, query.intrinsics)


def locate_queries(
    scene: Scene,
    reflectance_scene: Scene,
    models: ModelPair,
    cfg: Config,
    run: RunFolder,
    device: torch.device,
) -> None:
    """Find and refine the pose of every query that has none yet; results go to the run folder."""
    run.poses.keep_only(query.id for query in scene.queries)
    folders = run.query_folders(scene)
    reflectance_of = {query.id: query for query in reflectance_scene.queries}
    settings = {
        "version": VERSION,
        "models": models_fingerprint(run),
        "gallery": gallery_fingerprint(scene),
        "initial_pose": asdict(cfg.initial_pose),
        "refine": cfg.refine.what_counts(),
        "features": [cfg.detect.features, cfg.detect.feature_weights],
    }

    def settings_of(query: Query) -> dict:
        own = {"query": query_fingerprint(query), "folder": folders[query.id].name}
        return settings | own | {"reflectance": query_fingerprint(reflectance_of[query.id])}

    todo = [
        query
        for query in scene.queries
        if not run.poses.done(query.id, settings_of(query))
        or (run.poses[query.id]["status"] == "ok" and not folders[query.id].is_dir())
    ]
    if not todo:
        print(f"all {len(scene.queries)} queries have their pose already")
        return
    initialiser = pose_initialiser(
        scene, reflectance_scene, models, cfg.initial_pose, device, run.cache
    )
    run.poses.header["weights"] = {
        **run.poses.header.get("weights", {}),
        **initialiser.weights,
    }
    own = None
    if cfg.refine.refuse_below > 0:
        own = gallery_agreement(scene, reflectance_scene, models, cfg.refine, run, device)
    pairs = list(zip(scene.gallery, reflectance_scene.gallery, strict=True))
    lent = lent_detail(models, pairs, cfg.refine)
    features = partial(load_features, cfg.detect, device)
    turns = object_turns(scene, models, cfg.refine, run, features)
    queries = progress(todo, "queries")
    while batch := list(itertools.islice(queries, cfg.refine.batch_on(device))):
        for query in batch:  # what another photograph left there
            shutil.rmtree(folders[query.id], ignore_errors=True)
        targets = [make_target(query, reflectance_of[query.id], device) for query in batch]
        starts = initialiser.locate_many(
            [target.image[:3] for target in targets],
            [target.image[3:] for target in targets],
            [target.intrinsics for target in targets],
            [target.silhouette for target in targets],
        )
        refined = refine_located(targets, starts, models, cfg.refine, lent)
        if turns is not None:
            begun = [contenders(start) if start.status == "ok" else [] for start in starts]
            refined = refine_turned(targets, begun, refined, turns, own, cfg.refine, lent)
        for query, target, start, found in zip(batch, targets, starts, refined, strict=True):
            verdict = None
            if found is not None:
                verdict = judge(found, target, models, own, cfg.refine)
                if not verdict.refused:
                    write_query_images(folders[query.id], target, found, models)
            record = pose_record(start, found, verdict, cfg.initial_pose)
            run.poses.add(query.id, record, settings_of(query), save=False)
        run.poses.save()
    for query in scene.queries:
        record = run.poses[query.id]
        if record["status"] != "ok":
            print(f"not found: {query.id} ({record['message']})")
        elif record["ambiguous"]:
            print(f"ambiguous: {query.id} ({record['message']})")


def refine_located(
    targets: Sequence[Target],
    starts: Sequence[StartPose],
    models: ModelPair,
    cfg: RefineConfig,
    lent: LentDetail | None = None,
) -> list[RefinedPose | None]:
    """The refined poses of queries at once; None where there is no start pose."""
    located = [i for i, start in enumerate(starts) if start.status == "ok"]
    found = refine_poses(
        [targets[i] for i in located], [contenders(starts[i]) for i in located], models, cfg, lent
    )
    refined: list[RefinedPose | None] = [None] * len(targets)
    for index, pose in zip(located, found, strict=True):
        refined[index] = pose
    return refined


def pose_initialiser(
    scene: Scene,
    reflectance_scene: Scene,
    models: ModelPair,
    cfg: InitialPoseConfig,
    device: torch.device,
    cache: Path | None = None,
) -> PoseInitialiser:
    """What finds start poses among a scene's gallery; `cache` keeps the gallery's encoding."""
    return PoseInitialiser(
        [view.camera for view in scene.gallery],
        [view.image() for view in scene.gallery],
        [view.image() for view in reflectance_scene.gallery],
        models.joined or models.colour,
        cfg,
        cache,
        device,
    )


def contenders(start: StartPose) -> list[Tensor]:
    """The start pose, then the other hypotheses: the refinement chooses among them."""
    others = [
        hypothesis.world_to_camera
        for hypothesis in start.hypotheses
        if not torch.equal(hypothesis.world_to_camera, start.world_to_camera)
    ]
    return [start.world_to_camera, *others]


def pose_record(
    start: StartPose,
    refined: RefinedPose | None,
    verdict: Verdict | None,
    cfg: InitialPoseConfig,
) -> dict:
    """A query's entry in poses.json; poses are camera_to_world in OpenGL axes.

    An ambiguous query has a rival pose where one on another side was refined as well. `refused`
    names the figure that spoke against the pose, its value and its limit. Without refined
    hypotheses to compare, a tie of the start poses makes a query ambiguous.
    """

    def opengl(world_to_camera: Tensor | None) -> Tensor | None:
        if world_to_camera is None:
            return None
        return opencv_to_opengl(rigid_inverse(world_to_camera.to(torch.float64).cpu()))

    record = {
        "status": start.status,
        "start_camera_to_world": opengl(start.world_to_camera),
        "camera_to_world": None,
        "rival_camera_to_world": None,
        "num_inliers": start.num_inliers,
        "confidence": start.confidence,
        "margin": start.margin,
        "ambiguous": False,
        "refused": None,
        "message": start.message,
    }
    if refined is None:
        if cfg.initial_pose == "ours":
            record["refused"] = refusal(
                "start similarity", start.confidence, cfg.start_min_similarity
            )
        return record
    record |= {
        "loss": refined.loss,
        "steps": refined.steps,
        "stop_reason": refined.stop_reason,
        "seconds": refined.seconds,
        "agreement": verdict.agreement,
        "agreement_limit": verdict.limit,
        "likeness": refined.likeness,
        "rival_likeness": refined.rival_likeness,
        "rival_agreement": refined.rival_agreement,
    }
    if verdict.refused:
        reason = refusal("agreement", verdict.agreement, verdict.limit)
        return record | {"status": "not_found", "refused": reason, "message": verdict.message}
    record["camera_to_world"] = opengl(refined.world_to_camera)
    if verdict.ambiguous:
        record["rival_camera_to_world"] = opengl(refined.rival)
    if refined.likeness is None:
        message = verdict.message or start.message
        tie = start.margin < cfg.start_min_margin
        return record | {"ambiguous": verdict.ambiguous or tie, "message": message}
    return record | {"ambiguous": verdict.ambiguous, "message": verdict.message}


def refusal(figure: str, value: float, limit: float) -> dict:
    """Why a query was refused, as poses.json has it."""
    return {"figure": figure, "value": value, "limit": limit}
