"""Image matchers behind one small interface: EfficientLoFTR, XFeat + LighterGlue, SIFT."""

from EfficientLoFTR.errors import CheckpointError
from EfficientLoFTR.interface import Features, Matcher, Matches
from EfficientLoFTR.select import MATCHERS, load_matcher

__all__ = ["MATCHERS", "CheckpointError", "Features", "Matcher", "Matches", "load_matcher"]
