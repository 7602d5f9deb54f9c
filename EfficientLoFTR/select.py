"""Which matcher, and where its weights come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from EfficientLoFTR.efficientloftr import HUB_NAME, EfficientLoFTRMatcher, download_network
from EfficientLoFTR.interface import Matcher
from EfficientLoFTR.sift import SiftMatcher
from EfficientLoFTR.xfeat import XFeatMatcher

MATCHERS = ("auto", "eloftr", "xfeat", "sift")
ORIGINAL_PLACE = Path(__file__).resolve().parent / "weights" / "eloftr_outdoor.ckpt"


def load_matcher(
    kind: str = "auto",
    *,
    checkpoint: str | Path | None = None,
    device="cpu",
    size: int = 0,
    num_points: int = 1024,
    say: Callable[[str], None] = print,
) -> Matcher:
    """Load one matcher and say which weights it uses.

    The order for EfficientLoFTR: `checkpoint`, the original's place, the hub's download. `auto`
    takes EfficientLoFTR when one of the two files is there, and the shipped XFeat + LighterGlue
    otherwise; it never downloads.

    Args:
        size: longer side in px for the network; 0 leaves it to the matcher.
    Raises:
        CheckpointError: the weights asked for are missing or foreign.
    """
    if kind not in MATCHERS:
        raise ValueError(f"matcher must be one of {', '.join(MATCHERS)}, not {kind!r}")
    if kind == "sift":
        matcher: Matcher = SiftMatcher(num_points=2 * num_points)
    elif kind == "xfeat" or (kind == "auto" and not checkpoint and not ORIGINAL_PLACE.is_file()):
        matcher = XFeatMatcher(device=device, size=size, num_points=num_points)
    else:
        options = {"device": device, **({"size": size} if size else {})}
        path = checkpoint or (ORIGINAL_PLACE if ORIGINAL_PLACE.is_file() else None)
        if path:
            matcher = EfficientLoFTRMatcher.from_checkpoint(path, **options)
        else:
            name = f"EfficientLoFTR (download {HUB_NAME})"
            matcher = EfficientLoFTRMatcher(download_network(), name, **options)
    say(f"matcher: {matcher.name}")
    return matcher
