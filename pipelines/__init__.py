"""Workflows over many galaxies on Dask clusters."""
