"""Densities of a population, p(theta | eta), inferred from the posterior draws of its galaxies."""
