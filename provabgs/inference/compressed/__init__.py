"""The compressed likelihood: the exact Gaussian likelihood in about ten microseconds.

`training` draws composite spectra over the prior, `interpolation_points` learns from them at which few wavelengths a
spectrum must be known to be known everywhere, `reduction` reduces one galaxy's data to small matrices, in the galaxy's
own noise units and to a stated tolerance; `compressed_likelihood` evaluates ln L from them, batched and differentiable.
"""

from __future__ import annotations

from provabgs.inference.compressed.compressed_likelihood import CompressedLikelihood, make_log_likelihood
from provabgs.inference.compressed.reduction import Reduction, Size, reduce_projection, size_of

__all__ = ["CompressedLikelihood", "Reduction", "Size", "make_log_likelihood", "reduce_projection", "size_of"]
