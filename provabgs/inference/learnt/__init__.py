"""A population prior learnt from a catalog: its density, its file, and fits under it."""

from provabgs.inference.learnt.prior import LEAST_EFFECTIVE, LearntPrior, half_of, load_prior, meaning_of
from provabgs.inference.learnt.prior_file import PriorFile, prior_file_from

__all__ = ["LEAST_EFFECTIVE", "LearntPrior", "PriorFile", "half_of", "load_prior", "meaning_of", "prior_file_from"]
