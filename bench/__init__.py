"""Timings; bench/README.md lists them."""
