"""The method's parts; what both scripts and the benchmarks are made of."""

import os

# OpenMP's threads, once idle, spin for a while before they sleep, and on cores shared with other
# programs they take the time of those that work: a fit beside other jobs on two cores took two to
# three times as long. A shorter spin costs some 3 % on an idle machine. Read when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
