"""What the change net learns from: comparisons of objects' queries at about their true poses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera
from piad.change_net import evidence, half_images
from piad.config import PoseConfig
from piad.features import load_features
from piad.models import fit_models
from piad.normality import learn_normality, teaching_views
from piad.reflectance import ReflectanceNet, to_reflectance
from piad.run_folder import RunFolder
from piad.scenes import load_scene
from piad.scoring import Shot, batch_size, batches, compare_at, normal_at
from piad.threshold import jittered
from piad.true_poses import true_query_cameras
from piad.view_dependence import flawless_look

JITTER_SPREAD = 0.7  # standard deviation of the logarithm of a query's pose error


def examples(
    cfg: PoseConfig, device: torch.device, cameras: Mapping[str, Camera] | None = None
) -> dict[str, Tensor]:
    """What the net sees of an object's queries, on the CPU; the object is taught if need be.

    Args:
        cameras: of the queries; None: the true ones, moved as a refinement leaves them.
    Returns:
        maps [N, 24, H / 4, W / 4] and images [N, 13, H / 2, W / 2] in half precision, mask
        [N, 1, H, W] uint8, label [N].
    """
    scene = load_scene(cfg.data, cfg.class_name)
    net = ReflectanceNet.load(cfg.reflectance, device)
    with RunFolder.open(cfg) as run:
        reflectance = to_reflectance(scene, net, run.reflection, device)
        models = fit_models(scene, reflectance, cfg, run, device)
    features = load_features(cfg.detect, device)
    pairs = list(zip(scene.gallery, reflectance.gallery, strict=True))
    models, detail = flawless_look(models, pairs, cfg.detect)
    teach = teaching_views(pairs, cfg.detect), features, cfg.detect
    normality = learn_normality(models, *teach, detail=detail).normality()
    generator = torch.Generator().manual_seed(cfg.seed)

    def moved(camera: Camera) -> Camera:
        amount = float(torch.exp(JITTER_SPREAD * torch.randn((), generator=generator)))
        return jittered(camera, models.centre, generator, amount)

    if cameras is None:
        cameras = {name: moved(c) for name, c in (true_query_cameras(scene) or {}).items()}
    queries = zip(scene.queries, reflectance.queries, strict=True)
    chosen = [(query, own) for query, own in queries if query.id in cameras]
    kept: dict[str, list[Tensor]] = {"maps": [], "images": [], "mask": [], "label": []}
    for batch in batches(chosen, batch_size(device)):
        shots = [
            Shot(cameras[query.id], query.image(), own.image(), detail and detail.at)
            for query, own in batch
        ]
        compared, _ = compare_at(models, shots, features, cfg.detect)
        normal = normal_at(models, shots, normality)
        kept["maps"].append(evidence(compared, normal).half().cpu())
        kept["images"].append(half_images(compared).half().cpu())
        for query, _ in batch:
            kept["mask"].append(query.mask()[None, None].to(torch.uint8))
            kept["label"].append(torch.tensor([query.label]))
    return {name: torch.cat(parts) for name, parts in kept.items()}
