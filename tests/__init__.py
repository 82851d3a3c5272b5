"""Tests of provabgs; `tests.support` holds what several of them and the studies share."""
