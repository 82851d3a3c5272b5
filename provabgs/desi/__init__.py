"""DESI in: coadds and spectra, redrock redshifts, Legacy Surveys photometry; each row an observation or a reason."""

from provabgs.desi.assemble import iter_observations, read_observation, read_observations
from provabgs.desi.paths import healpix_paths, infer_redrock, tile_paths
from provabgs.desi.targetid import decode_targetid, encode_targetid
from provabgs.desi.targets import ReadOptions

__all__ = [
    "ReadOptions",
    "decode_targetid",
    "encode_targetid",
    "healpix_paths",
    "infer_redrock",
    "iter_observations",
    "read_observation",
    "read_observations",
    "tile_paths",
]
