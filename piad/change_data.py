"""What the change net learns from: comparisons of objects' queries at about their true poses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gaussian_renderer.area import area_average
from gaussian_renderer.camera import Camera
from piad.anomaly import fraction
from piad.change_net import evidence, feature_changes, half_images
from piad.close_up import object_window, square
from piad.config import PoseConfig
from piad.features import load_features
from piad.models import fit_models
from piad.normality import learn_normality, teaching_views
from piad.reflectance import ReflectanceNet, to_reflectance
from piad.relight import resized
from piad.run_folder import RunFolder
from piad.scenes import load_scene
from piad.scoring import Shot, batch_size, batches, compare_at, cut, normal_at, surface_at
from piad.threshold import jittered
from piad.true_poses import true_query_cameras
from piad.view_dependence import flawless_look

JITTER_SPREAD = 0.7  # standard deviation of the logarithm of a query's pose error
SIDE = 608  # px of an enlarged example, about the object: all are of one size
LAYERS = 3  # whose features are compared
MOST_CHANGE = 2.0  # of a feature; what is larger is kept as this


def examples(
    cfg: PoseConfig, device: torch.device, cameras: Mapping[str, Camera] | None = None
) -> dict[str, Tensor]:
    """What the net sees of an object's queries, on the CPU; the object is taught if need be.

    Args:
        cameras: of the queries; None: the true ones, moved as a refinement leaves them.
    Returns:
        maps [N, 24, H / 4, W / 4], surface [N, 2, H / 4, W / 4] and images [N, 13, H / 2, W / 2] in
        half precision, changes_0 to changes_2 [N, C, h, w] `packed`, mask [N, 1, H / 2, W / 2]
        uint8, label [N]; H and W of the enlarged windows.
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
    kept: dict[str, list[Tensor]] = {}

    def keep(**parts: Tensor) -> None:
        for name, part in parts.items():
            kept.setdefault(name, []).append(part.cpu())

    side = round(SIDE / cfg.detect.detect_zoom)
    for batch in batches(chosen, batch_size(device)):
        shots, masks = [], []
        for query, own in batch:
            camera = cameras[query.id]
            window = square(object_window(models, camera), side, camera)
            shot = Shot(camera, query.image(), own.image(), detail)
            shots.append(cut(shot, window))
            masks.append(window.cut(query.mask()).float())
            keep(label=torch.tensor([query.label]))
        compared, _ = compare_at(models, shots, features, cfg.detect)
        size = tuple(compared.alpha.shape[-2:])
        surface = surface_at(models, shots, compared)
        normal = normal_at(models, shots, normality, surface)
        mask = area_average(resized(torch.stack(masks)[:, None], size), fraction(size, 2))
        keep(maps=evidence(compared, normal).half(), images=half_images(compared).half())
        keep(surface=surface.half(), mask=(mask > 0.5).to(torch.uint8))
        for layer, change in enumerate(feature_changes(compared)):
            keep(**{f"changes_{layer}": packed(change)})
    return {name: torch.cat(parts) for name, parts in kept.items()}


def packed(change: Tensor) -> Tensor:
    """Changes of features in a byte each, finer about 0: the root's sign and size."""
    root = (change.abs() / MOST_CHANGE).clamp(0, 1).sqrt()
    return (127 * change.sign() * root).round().to(torch.int8)


def unpacked(kept: Tensor) -> Tensor:
    """Changes of features as `packed` kept them."""
    root = kept.float() / 127
    return MOST_CHANGE * root * root.abs()
