"""The feature network of the comparison: the one `retrieval` loads, chosen by the config."""

from __future__ import annotations

import torch

from piad.anomaly import DetectConfig
from retrieval.model.feature_net import FeatureNet

__all__ = ["FeatureNet", "load_features"]


def load_features(cfg: DetectConfig, device: str | torch.device = "cpu") -> FeatureNet:
    """Load the network that `cfg.features` and `cfg.feature_weights` name; says which it is."""
    return FeatureNet.load(cfg.features, cfg.feature_weights or None, device=device)
