"""L-GALAXIES and other simulations turned into DESI-like observations with known truth."""
