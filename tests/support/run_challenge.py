"""``python -m tests.support.run_challenge CHALLENGE.toml``: a challenge of dry-run fits, which tests may kill."""

from __future__ import annotations

import sys

from provabgs.pipelines.challenge import load_challenge, run_challenge

FIT = "tests.support.challenge_fits:fit_observation"

if __name__ == "__main__":
    print(run_challenge(load_challenge(sys.argv[1]), fit=FIT, announce=print))
