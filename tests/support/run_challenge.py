"""``python run_challenge.py CHALLENGE.toml``: a mock challenge of dry-run fits, for tests that must kill it."""

from __future__ import annotations

import sys

from provabgs.pipelines.challenge import load_challenge, run_challenge

if __name__ == "__main__":
    print(run_challenge(load_challenge(sys.argv[1]), fit="challenge_fits:fit_observation", announce=print))
