"""The paper's start pose: the gallery photograph with the most confident matches (PIAD).

The gallery's half that is nearer to the query in L1 of the pixels is matched with it, and the pose
of the photograph with the most matches of confidence above 0.7 is the start pose. The L1 is taken
in floating point; gallery features are kept, which changes the time and not the result.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from EfficientLoFTR import Features, Matcher
from gaussian_renderer.camera import Camera
from retrieval.start_pose import Hypothesis, StartPose

CONFIDENT = 0.7  # PIAD
DISTANCE_PX = 100  # the L1 is taken on images of this longer side


def shrink(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] with a longer side of at most DISTANCE_PX."""
    height, width = images.shape[-2:]
    factor = min(1.0, DISTANCE_PX / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return F.interpolate(images, size, mode="area")


def better_half(query: Tensor, gallery: Tensor) -> list[int]:
    """Indices of the nearer half (at least one) of the gallery [V, 3, h, w] by mean L1.

    Args:
        query: [3, H, W], resampled to the gallery's size when it differs.
    """
    small = F.interpolate(query[None], gallery.shape[-2:], mode="area")
    distance = (gallery - small).abs().mean((1, 2, 3))
    return distance.argsort()[: max(1, (len(gallery) + 1) // 2)].tolist()


def best_matched_view(
    query: Features, matcher: Matcher, gallery: list[Features], half: list[int]
) -> tuple[int, int]:
    """The gallery index with the most confident matches, and their number."""
    results = matcher.match_many(query, [gallery[i] for i in half])
    counts = torch.tensor([int((m.confidence > CONFIDENT).sum()) for m in results])
    best = int(counts.argmax())
    return half[best], int(counts[best])


def original_start_pose(
    image: Tensor,
    matcher: Matcher,
    cameras: list[Camera],
    small_gallery: Tensor,
    gallery: list[Features],
) -> StartPose:
    """The paper's start pose of `image` [3, H, W]; "not_found" without one confident match."""
    half = better_half(image, small_gallery)
    query = matcher.encode(image[None])[0]
    index, count = best_matched_view(query, matcher, gallery, half)
    pose = cameras[index].world_to_camera.clone()
    found = count > 0
    return StartPose(
        world_to_camera=pose,
        num_inliers=count,
        confidence=count / (count + 50.0),
        status="ok" if found else "not_found",
        hypotheses=[Hypothesis(pose, 0.0, count, index, "matches")],
        gallery_index=index,
        message="" if found else f"no match above {CONFIDENT} with any of {len(half)} views",
    )
