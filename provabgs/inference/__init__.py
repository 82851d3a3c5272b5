"""Priors, likelihoods, samplers, diagnostics and posteriors."""
