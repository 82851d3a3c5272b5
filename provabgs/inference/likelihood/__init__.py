"""Likelihoods behind one protocol: the exact one, and faster backends that are measured against it."""

from __future__ import annotations

from provabgs.inference.likelihood.base import Likelihood, LinearSystem, NormalEquations, fit_parameters
from provabgs.inference.likelihood.exact import ExactLikelihood

__all__ = ["ExactLikelihood", "Likelihood", "LinearSystem", "NormalEquations", "fit_parameters"]
