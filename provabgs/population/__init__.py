"""From posteriors of galaxies to properties of populations."""
