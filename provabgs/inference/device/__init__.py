"""Likelihoods of many fit processes, evaluated together on one accelerator.

`server` owns the card: it keeps the arrays of every galaxy that is being fitted there and evaluates the requests of
many processes in one call. `client` is what a fit process asks it through; samplers see no difference. `evaluations`
has the functions, which a fit process without a server evaluates itself (`provabgs.inference.marginalised`).
"""

from __future__ import annotations
