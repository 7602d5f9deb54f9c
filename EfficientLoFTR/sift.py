"""SIFT (Lowe 2004) through opencv: no weights, any in-plane rotation; the plain comparator."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from EfficientLoFTR.interface import Features, Matches, to_grey

RATIO = 0.85  # of the best to the second-best distance; mutual matches only


class SiftMatcher:
    """Sparse matches by mutual nearest RootSIFT descriptors under the ratio test."""

    storable = True
    name = "SIFT (opencv)"

    def __init__(self, *, num_points: int = 2048, contrast: float = 0.02) -> None:
        self.detector = cv2.SIFT_create(nfeatures=num_points, contrastThreshold=contrast)
        self.signature = f"sift-{cv2.__version__}-{num_points}-{contrast}"

    def encode(self, images: Tensor) -> list[Features]:
        """Keypoints [N, 2] and RootSIFT descriptors [N, 128] of each image."""
        grey = (to_grey(images.float().cpu())[:, 0].clamp(0, 1) * 255).round().byte().numpy()
        results = []
        for image in grey:
            keypoints, descriptors = self.detector.detectAndCompute(image, None)
            if descriptors is None:
                descriptors = np.zeros((0, 128), np.float32)
            descriptors = np.sqrt(
                descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-12)
            )
            # opencv puts pixel centres at whole numbers.
            points = np.array([k.pt for k in keypoints], np.float32).reshape(-1, 2) + 0.5
            results.append(
                {
                    "points": torch.from_numpy(points),
                    "descriptors": torch.from_numpy(descriptors.astype(np.float32)),
                    "size": torch.tensor([image.shape[1], image.shape[0]], dtype=torch.float32),
                }
            )
        return results

    def match(self, a: Features, b: Features) -> Matches:
        """Corresponding points of one pair; confidence is 1 - ratio of the two best distances."""
        first, second = a["descriptors"].cpu(), b["descriptors"].cpu()
        if len(first) < 2 or len(second) < 2:
            return Matches.none()
        similarity = first @ second.T  # RootSIFT vectors have length 1
        best, index = similarity.topk(2, dim=1)
        distance = (2 - 2 * best).clamp_min(0).sqrt()
        ratio = distance[:, 0] / distance[:, 1].clamp_min(1e-6)
        mutual = similarity.argmax(0)[index[:, 0]] == torch.arange(len(first))
        keep = torch.nonzero(mutual & (ratio < RATIO))[:, 0]
        points_a, points_b = a["points"].cpu(), b["points"].cpu()
        return Matches(points_a[keep], points_b[index[keep, 0]], 1 - ratio[keep])

    def match_many(self, a: Features, others: list[Features]) -> list[Matches]:
        """Corresponding points of `a` with each of `others`."""
        return [self.match(a, other) for other in others]
