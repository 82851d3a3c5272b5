"""Surveys: selection, Vmax and weights of galaxies, mass functions and the star-forming sequence."""
