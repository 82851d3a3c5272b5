"""Priors that fits induce on derived properties, and their maximum-entropy correction."""
