"""All draws from all proposals of a posterior, used together, and Metropolis chains that walk over them.

Draws of proposals q_1 ... q_J, n_j of each, are treated as draws of their mixture sum_j n_j q_j / N: the balance
heuristic of Veach & Guibas (1995), which adaptive multiple importance sampling (Cornuet et al. 2012) applies to
proposals that learn from the draws before them. A proposal that comes later takes weight off draws that the earlier
ones nearly missed; nothing that was evaluated is thrown away. Judged and returned are independence Metropolis chains
over the shuffled draws: where one weight is heavy, chains stay on it, and R-hat and ESS say so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from provabgs.core.arrays import FloatArray
from provabgs.core.chunks import padded
from provabgs.core.weights import normalised
from provabgs.inference.samplers.base import MarginalPosterior
from provabgs.inference.samplers.mixture import Mixture

N_LINEAR = 6
"""Draws of the linear coordinates per outer draw."""
BATCH = 1024
"""Rows evaluated at a time: one shape is compiled."""


class ProposalPool:
    """Draws of the exact posterior's latent coordinates, with what is needed to weight them.

    Attributes
    ----------
    outer, latent
        ``(n, n_outer)`` outer and ``(n, n_latent)`` latent coordinates.
    """

    def __init__(self, posterior: MarginalPosterior) -> None:
        self.posterior = posterior
        self.outer = np.empty((0, posterior.n_outer))
        self.latent = np.empty((0, posterior.n_latent))
        self._log_target = np.empty(0)
        self._log_density = np.empty(0)  # log of sum_j n_j q_j at each draw
        self._proposals: list[tuple[Mixture, float]] = []

    def __len__(self) -> int:
        return len(self.outer)

    def add(self, proposal: Mixture, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw from a proposal and evaluate the posterior at the draws.

        Parameters
        ----------
        proposal
            Density in the marginalised coordinates.
        n
            Number of draws.
        rng
            Random generator.

        Returns
        -------
        FloatArray
            ``(n,)`` log weights under this proposal alone.
        """
        outer = proposal.sample(n, rng)
        latent, log_target = self._evaluate(outer, rng)
        own = proposal.log_density(outer)
        terms = [own + np.log(n), *(q.log_density(outer) + log_count for q, log_count in self._proposals)]
        if len(self):
            at_old = proposal.log_density(self.outer) + np.log(n)
            self._log_density = np.logaddexp(self._log_density, at_old)
        self._log_density = np.append(self._log_density, np.logaddexp.reduce(terms, axis=0))
        self.outer = np.concatenate([self.outer, outer])
        self.latent = np.concatenate([self.latent, latent])
        self._log_target = np.append(self._log_target, log_target)
        self._proposals.append((proposal, float(np.log(n))))
        return log_target - own

    def merge(self, other: ProposalPool) -> None:
        """Take in the draws and proposals of another pool of the same posterior."""
        for proposal, log_count in other._proposals:
            at_own = proposal.log_density(self.outer) + log_count
            self._log_density = np.logaddexp(self._log_density, at_own)
        terms = [other._log_density, *(q.log_density(other.outer) + log_count for q, log_count in self._proposals)]
        self._log_density = np.append(self._log_density, np.logaddexp.reduce(terms, axis=0))
        self.outer = np.concatenate([self.outer, other.outer])
        self.latent = np.concatenate([self.latent, other.latent])
        self._log_target = np.append(self._log_target, other._log_target)
        self._proposals += other._proposals

    def log_weights(self) -> FloatArray:
        """Of every draw, ``(n,)``; their mean estimates the evidence."""
        return self._log_target - self._log_density + np.log(len(self))

    @property
    def best(self) -> FloatArray:
        """Latent coordinates ``(n_latent,)`` of the draw of highest posterior density."""
        return self.latent[int(np.argmax(self._log_target))]

    def walk(self, n_chain: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Independence Metropolis chains; each walks over its own draws.

        Parameters
        ----------
        n_chain
            Number of chains.
        rng
            Random generator.

        Returns
        -------
        NDArray
            ``(n_chain, n // n_chain)`` indices of draws.
        """
        return walk(self.log_weights(), n_chain, rng)

    def _evaluate(self, outer: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """All latent coordinates ``(n, n_latent)`` and log target ``(n,)``."""
        n = len(outer)
        whole = padded(outer, BATCH)
        uniforms = rng.random((len(whole), N_LINEAR, self.posterior.n_uniform))
        pieces = [
            self.posterior.draw_linear(whole[i : i + BATCH], uniforms[i : i + BATCH])
            for i in range(0, len(whole), BATCH)
        ]
        latent, log_target = (np.concatenate(p)[:n] for p in zip(*pieces, strict=True))
        return latent, np.where(np.isfinite(log_target), log_target, -np.inf)


def walk(log_weight: FloatArray, n_chain: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Independence Metropolis chains over shuffled, weighted draws.

    Parameters
    ----------
    log_weight
        ``(n,)`` log of target over proposal.
    n_chain
        Number of chains.
    rng
        Random generator.

    Returns
    -------
    NDArray
        ``(n_chain, n // n_chain)`` indices of draws.
    """
    n = len(log_weight) // n_chain
    shares = rng.permutation(len(log_weight))[: n_chain * n].reshape(n_chain, n)
    log_uniform = np.log(rng.random((n_chain, n)))
    steps = np.empty((n_chain, n), dtype=np.int64)
    for c, share in enumerate(shares):
        weights, thresholds = log_weight[share].tolist(), log_uniform[c].tolist()
        # start where the weights say: stationary from the first step
        state = int(rng.choice(n, p=normalised(log_weight[share])))
        for s in range(n):
            if weights[s] - weights[state] > thresholds[s]:
                state = s
            steps[c, s] = share[state]
    return steps
