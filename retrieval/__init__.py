"""A query becomes a start pose: global shortlist, matching, depth, PnP, hypotheses."""

from retrieval.config import ORIGINAL, InitialPoseConfig
from retrieval.initial_pose import PoseInitialiser
from retrieval.start_pose import Hypothesis, StartPose

__all__ = ["ORIGINAL", "Hypothesis", "InitialPoseConfig", "PoseInitialiser", "StartPose"]
