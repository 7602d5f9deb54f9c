"""What a search for a start pose returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Hypothesis:
    """One possible pose of a query.

    Attributes:
        world_to_camera: [4, 4], float64, OpenCV axes.
        similarity: of the query and the rendering at this pose, at most 1.
        num_inliers: matches that agree with this pose (0 when it came from the shortlist alone).
        gallery_index: the photograph (or rendered view, counted on) it started from.
        source: "shortlist" or "matches".
    """

    world_to_camera: Tensor
    similarity: float
    num_inliers: int
    gallery_index: int
    source: str


@dataclass
class StartPose:
    """A query's start pose.

    Attributes:
        world_to_camera: the best hypothesis, [4, 4], float64, OpenCV axes; given even when the
            status is "not_found", as the best guess.
        num_inliers: matches that agree with it.
        confidence: 0..1. Ours: similarity of query and rendering. Original: share of the
            query's confident matches among the keypoints that could match.
        status: "ok", or "not_found" when nothing supports the pose.
        hypotheses: distinct poses, best first, the chosen one included.
        gallery_index: photograph that the chosen pose started from.
        margin: lead of the best over the next distinct hypothesis, in similarity.
        message: why the status is what it is, for the terminal.
    """

    world_to_camera: Tensor
    num_inliers: int
    confidence: float
    status: str
    hypotheses: list[Hypothesis] = field(default_factory=list)
    gallery_index: int = -1
    margin: float = 1.0
    message: str = ""
