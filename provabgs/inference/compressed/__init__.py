"""The compressed likelihood: the exact Gaussian likelihood in a few tens of microseconds.

`basis` reduces an SSP library to a low-rank form once; `reduction` reduces one galaxy's data to small matrices, in the
galaxy's own noise units and to a stated tolerance; `engine` evaluates ln L from them, batched and differentiable.
"""

from __future__ import annotations

from provabgs.inference.compressed.basis import SpectralBasis, default_basis
from provabgs.inference.compressed.engine import CompressedLikelihood
from provabgs.inference.compressed.reduction import Reduction, reduce_projection

__all__ = ["CompressedLikelihood", "Reduction", "SpectralBasis", "default_basis", "reduce_projection"]
