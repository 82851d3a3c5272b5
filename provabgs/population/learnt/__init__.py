"""A population prior learnt from a catalog's posteriors, and posteriors under it."""
