"""A query becomes a start pose: global shortlist, matching, depth, PnP, hypotheses."""
