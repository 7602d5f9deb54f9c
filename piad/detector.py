"""What judges photographs of an object, put together: comparer, normality, threshold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from piad.anomaly import DetectConfig
from piad.change_net import load_change_net
from piad.cli import progress
from piad.close_up import enlarging
from piad.comparison import Comparer
from piad.features import load_features
from piad.models import ModelPair, models_fingerprint
from piad.normality import kept_normality
from piad.threshold import Threshold, flawless_scores, kept_threshold
from piad.view_dependence import flawless_look

if TYPE_CHECKING:
    from piad.config import Config
    from piad.reflectance import ReflectanceNet
    from piad.run_folder import RunFolder
    from piad.scenes import Scene


@dataclass(frozen=True, eq=False)
class Detector:
    """comparer: of queries with their renderings; threshold: without labels, None where none is
    asked for; weights: which networks are at work, {part: name}."""

    comparer: Comparer
    threshold: Threshold | None
    weights: dict[str, str]


def load_detector(
    scene: Scene,
    reflectance_scene: Scene,
    net: ReflectanceNet,
    models: ModelPair,
    cfg: Config,
    run: RunFolder,
    maps: Path,
) -> Detector:
    """Learn from the gallery what is normal and which scores are, or take what the run has kept.

    Args:
        net: made the reflectance images.
        maps: folder in which the comparer keeps its maps.
    """
    features = load_features(cfg.detect, models.background.device)
    change = load_change_net(cfg.detect, features, models.background.device)
    models_id = models_fingerprint(run)
    pairs = list(zip(scene.gallery, reflectance_scene.gallery, strict=True))
    models, detail = flawless_look(models, pairs, cfg.detect)
    detect = enlarging(cfg.detect, models, (view.camera for view, _ in pairs))
    sums = kept_normality(
        run.cache / "normality.safetensors",
        models,
        models_id,
        pairs,
        features,
        detect,
        lambda items: progress(items, "normality"),
        detail,
    )
    normality = None if sums is None else sums.normality()
    depends = {
        "models": models_id,
        "features": features.name,
        "reflectance": net.fingerprint,
        "detect": asdict(detect),
        "normality": None if normality is None else normality.fingerprint,
        "change": change and change.fingerprint,
        "seed": cfg.seed,
    }

    def score() -> list[float]:
        return flawless_scores(
            models,
            pairs,
            sums,
            net,
            features,
            detect,
            cfg.threshold.false_alarm_samples,
            cfg.seed,
            lambda items: progress(items, "threshold"),
            detail,
            change,
        )

    choices = replace(cfg.detect, features="auto", feature_weights="")  # the net has its own
    usual = change is not None and choices == DetectConfig()
    kept = run.cache / "flawless_scores.json"
    threshold = kept_threshold(kept, cfg.threshold, depends, score, usual)
    comparer = Comparer(models, models_id, features, detect, maps, normality, detail, change)
    weights = {"features": features.name, "reflectance": net.name}
    weights["change"] = "none" if change is None else change.name
    return Detector(comparer, threshold, weights)
