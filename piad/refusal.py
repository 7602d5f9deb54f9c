"""Whether a refined pose is believed: a photograph of anything else is refused (ours).

The figure is the agreement of query and rendering at full resolution (`piad.agreement`). Small
windows correlate only where fine detail does, so a foreign photograph stays near 0 wherever its
pose ends. How far a true query gets depends on the object and on how well its models fit; the limit
is therefore a share of what the object's own gallery reaches at its known poses. Measured in
docs/method_start_pose.md.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from piad.agreement import closeness
from piad.fingerprint import gallery_fingerprint
from piad.models import ModelPair, models_fingerprint
from piad.normality import evenly
from piad.race import polish_pose
from piad.refine_config import RefineConfig, RefinedPose
from piad.reflectance import kept_json
from piad.target import Target

if TYPE_CHECKING:
    from piad.run_folder import RunFolder
    from piad.scenes import Scene

VERSION = 2  # of the figure: raise it when the same images give another
OWN_VIEWS = 24  # photographs, spread over the gallery, whose agreement is measured
AGREEMENT_TIE = 2.5  # times `tie_margin`: agreements of two sides are further apart than likenesses
DOUBT_STEPS = 8  # systems at full resolution before a pose is refused that had none


@dataclass(frozen=True)
class Verdict:
    """What is believed of a refined pose.

    refused: its agreement is below limit, the share `refuse_below` of the gallery's (None: nothing
    is refused); ambiguous: the agreement is below the share `doubt_below`, or a clearly different
    pose looks nearly as much like the query, or agrees with it nearly as much; message: why, for
    the terminal, empty when there is nothing to say.
    """

    agreement: float
    limit: float | None
    refused: bool
    ambiguous: bool
    message: str


def decide(refined: RefinedPose, own: float | None, cfg: RefineConfig) -> Verdict:
    """The verdict by the figures of a refined pose.

    Args:
        own: the gallery's own agreement; None: nothing is refused.
    """
    limit = None if own is None else cfg.refuse_below * own
    agreement = refined.agreement
    # a figure that is not a number is refused
    refused = limit is not None and not agreement >= limit
    rival = refined.rival_likeness
    alike = rival is not None and refined.likeness - rival < cfg.tie_margin
    agreeing = refined.rival_agreement
    close = agreeing is not None and agreement - agreeing < AGREEMENT_TIE * cfg.tie_margin
    tie = not refused and (alike or close)
    doubt = not refused and own is not None and agreement < cfg.doubt_below * own
    message = ""
    if refused:
        message = (
            f"agreement {agreement:.2f} with the rendering at the refined pose is below "
            f"{limit:.2f}, refuse_below = {cfg.refuse_below:g} of the gallery's own {own:.2f}"
        )
    elif doubt:
        message = (
            f"agreement {agreement:.2f} with the rendering at the refined pose is below "
            f"{cfg.doubt_below * own:.2f}, doubt_below = {cfg.doubt_below:g} of the gallery's own "
            f"{own:.2f}; look at its figure"
        )
    elif alike:
        message = (
            f"likeness {refined.likeness:.2f}, a clearly different pose has {rival:.2f}: less "
            f"apart than tie_margin = {cfg.tie_margin:g}"
        )
    elif close:
        message = (
            f"agreement {agreement:.2f}, a clearly different pose has {agreeing:.2f}: less apart "
            f"than {AGREEMENT_TIE:g} tie_margin = {AGREEMENT_TIE * cfg.tie_margin:g}"
        )
    return Verdict(agreement, limit, refused, tie or doubt, message)


def judge(
    refined: RefinedPose, target: Target, models: ModelPair, own: float | None, cfg: RefineConfig
) -> Verdict:
    """`decide`; a pose that wasn't polished is judged by what polishing makes of it if in doubt."""
    verdict = decide(refined, own, cfg)
    if verdict.refused and (cfg.refiner != "second_order" or cfg.polish_steps == 0):
        steps = replace(cfg, polish_steps=DOUBT_STEPS)
        pose = polish_pose(target, refined.world_to_camera, models, steps).pose
        _, agreement = closeness(target, pose, models, cfg)
        verdict = decide(replace(refined, agreement=agreement), own, cfg)
    return verdict


def gallery_agreement(
    scene: Scene,
    reflectance_scene: Scene,
    models: ModelPair,
    cfg: RefineConfig,
    run: RunFolder,
    device: torch.device,
) -> float:
    """Median agreement of the gallery's photographs with the renderings at their own poses.

    Measured once per pair of models; kept in the run's cache.
    """
    path = run.cache / "gallery_agreement.json"
    depends = {"models": models_fingerprint(run), "views": OWN_VIEWS, "version": VERSION}
    depends["gallery"] = [gallery_fingerprint(part) for part in (scene, reflectance_scene)]

    def measured() -> dict:
        pairs = list(zip(scene.gallery, reflectance_scene.gallery, strict=True))
        values = []
        for view, reflectance in evenly(pairs, OWN_VIEWS):
            image = torch.cat([view.image(), reflectance.image()]).to(device)
            target = Target.of(image, view.camera.intrinsics)
            values.append(closeness(target, view.camera.world_to_camera, models, cfg)[1])
        return {"median": statistics.median(values), "values": values}

    return kept_json(path, depends, measured)["median"]
