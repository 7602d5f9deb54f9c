"""Settings of the start pose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from EfficientLoFTR import MATCHERS
from gaussian_renderer.errors import UserError
from retrieval.model.feature_net import FEATURE_KINDS

WAYS = ("ours", "original")
ORIGINAL: dict[str, Any] = {"initial_pose": "original"}  # this part's share of --preset original


def _option(default: Any, text: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class InitialPoseConfig:
    """How a query's start pose is found."""

    initial_pose: str = _option(
        "ours",
        "ours (shortlist, matches with depth, renderings) or original (best-matched gallery view)",
        choices=WAYS,
    )
    matcher: str = _option(
        "auto",
        "auto (EfficientLoFTR if its checkpoint is there, else XFeat), eloftr, xfeat or sift",
        choices=MATCHERS,
    )
    matcher_checkpoint: str = _option("", "EfficientLoFTR's checkpoint; empty: search")
    matcher_size: int = _option(0, "longer side in px of images to match; 0: the matcher's choice")
    matcher_points: int = _option(1024, "keypoints per image (xfeat; sift takes twice as many)")
    match_views: int = _option(
        4, "gallery views that a query is matched with where start_sure asks for it; 0: never"
    )
    start_features: str = _option(
        "auto", "network of the shortlist: auto, b4 or lite2", choices=FEATURE_KINDS
    )
    start_feature_weights: str = _option("", "its weights; empty: search")
    start_virtual_views: int = _option(
        120, "views rendered between the photographs to make the shortlist denser"
    )
    start_rotations: int = _option(8, "in-plane rotations of the query tried (1: upright only)")
    start_candidates: int = _option(24, "poses that are aligned with the query coarsely")
    start_aligned: int = _option(12, "most alike of them that are aligned at finer resolution")
    start_compare_px: int = _option(100, "longer side in px of the finest images aligned")
    start_align_steps: int = _option(6, "steps of the alignment at each resolution")
    start_model_steps: int = _option(
        1000, "steps that fit the finest of the small models of the search"
    )
    start_sure: float = _option(
        0.4, "similarity from which a pose needs no matches with photographs; 1: always match"
    )
    start_hypotheses: int = _option(10, "distinct poses kept for the refinement, at most")
    start_spread: float = _option(
        0.1, "a pose whose similarity is lower than the best one's by more than this is dropped"
    )
    start_min_similarity: float = _option(
        0.25, "similarity of query and rendering, 0..1, below which a query is 'not found'"
    )
    start_min_margin: float = _option(
        0.02, "lead in similarity below which two distinct poses count as a tie, and it is said"
    )

    def __post_init__(self) -> None:
        for name in (
            "start_rotations",
            "start_candidates",
            "start_aligned",
            "start_hypotheses",
            "start_model_steps",
        ):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{name} must be at least 1, got {getattr(self, name)}; correct the config"
                )
        if self.start_compare_px < 32:
            raise UserError(
                f"start_compare_px must be at least 32, got {self.start_compare_px}; "
                "correct the config"
            )
