"""Where DESI keeps its files: the healpix, uniqpix and tile layouts of a spectroscopic production.

These only spare typing. A path given explicitly always wins. Layouts are those of https://desidatamodel.readthedocs.io
(DESI_SPECTRO_REDUX/SPECPROD): productions up to loa (DR2) group coadds by nside-64 pixel below ``healpix/``, those
from matterhorn (DR3) on by pixels of several sizes below ``spectra/``, numbered UNIQPIX = HEALPIX + 4 NSIDE^2.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from provabgs.core.errors import InputError


class CoaddPaths(NamedTuple):
    """A coadd and the redshifts that belong to it."""

    coadd: Path
    redrock: Path


def healpix_paths(root: str | Path, survey: str, program: str, healpix: int) -> CoaddPaths:
    """Files of one healpixel (nside 64, nested) below a production's folder.

    ``root/healpix/{survey}/{program}/{healpix//100}/{healpix}/coadd-{survey}-{program}-{healpix}.fits``
    """
    pixel = int(healpix)
    if not 0 <= pixel < 12 * 64**2:
        raise InputError(f"healpix {pixel} does not exist at nside 64; give 0..{12 * 64**2 - 1}")
    folder = Path(root) / "healpix" / survey / program / str(pixel // 100) / str(pixel)
    return _pair(folder, f"{survey}-{program}-{pixel}")


def uniqpix_paths(root: str | Path, survey: str, program: str, uniqpix: int) -> CoaddPaths:
    """Files of one pixel of any size below a production's folder.

    ``root/spectra/{survey}/{program}/{uniqpix//100}/{uniqpix}/coadd-{survey}-{program}-{uniqpix}.fits``
    """
    split_uniqpix(uniqpix)
    pixel = int(uniqpix)
    folder = Path(root) / "spectra" / survey / program / str(pixel // 100) / str(pixel)
    return _pair(folder, f"{survey}-{program}-{pixel}")


def split_uniqpix(uniqpix: int) -> tuple[int, int]:
    """``(nside, healpix)`` (nested) of a UNIQPIX number; `InputError` for one that is none."""
    pixel = int(uniqpix)
    if pixel < 4:
        raise InputError(f"uniqpix {pixel} does not exist; the smallest is 4 (nside 1, pixel 0)")
    nside = 1 << ((pixel.bit_length() - 3) // 2)
    return nside, pixel - 4 * nside**2


def uniqpix_overlaps(uniqpix: int, healpix: int, nside: int = 64) -> bool:
    """Whether a UNIQPIX pixel and a nested pixel share any part of the sky.

    Parameters
    ----------
    uniqpix
        HEALPIX + 4 NSIDE^2.
    healpix, nside
        The other pixel.
    """
    own, pixel = split_uniqpix(uniqpix)
    fine, coarse = (pixel, healpix) if own >= nside else (healpix, pixel)
    return fine // (max(own, nside) // min(own, nside)) ** 2 == coarse


def tile_paths(root: str | Path, tile: int, petal: int, night: int, kind: str = "cumulative") -> CoaddPaths:
    """Files of one petal of one tile below a production's folder.

    ``root/tiles/cumulative/{tile}/{night}/coadd-{petal}-{tile}-thru{night}.fits``; ``kind="pernight"`` has no
    ``thru``.
    """
    if kind not in ("cumulative", "pernight"):
        raise InputError(f"tile coadds of kind {kind!r} are not known; give 'cumulative' or 'pernight'")
    if not 0 <= int(petal) <= 9:
        raise InputError(f"petal {petal} does not exist; give 0..9")
    folder = Path(root) / "tiles" / kind / str(int(tile)) / str(int(night))
    return _pair(folder, f"{int(petal)}-{int(tile)}-{'thru' if kind == 'cumulative' else ''}{int(night)}")


def _pair(folder: Path, stem: str) -> CoaddPaths:
    """Coadd and redrock of one stem, compressed where only that exists."""
    coadd, redrock = folder / f"coadd-{stem}.fits", folder / f"redrock-{stem}.fits"
    return CoaddPaths(_or_compressed(coadd), _or_compressed(redrock))


def _or_compressed(path: Path) -> Path:
    """`path`, or its ``.gz`` when only that exists."""
    packed = path.with_name(path.name + ".gz")
    return packed if packed.exists() and not path.exists() else path


_PACKED = (".gz", ".fz")


def infer_redrock(coadd: str | Path) -> Path | None:
    """The redrock file beside a coadd or spectra file, None when there is none.

    Tried in this order: ``redrock-X`` for ``coadd-X``, ``redrock-coadd-X``, ``zbest-X``; plain, then compressed; beside
    the file, and where that is a link, beside what it points to.
    """
    file = Path(coadd)
    for place in dict.fromkeys((file, file.resolve())):
        name = place.name
        for suffix in _PACKED:
            name = name.removesuffix(suffix)
        stem = next((name.removeprefix(p) for p in ("coadd-", "spectra-") if name.startswith(p)), None)
        if stem is None:
            continue
        for candidate in (f"redrock-{stem}", f"redrock-{name}", f"zbest-{stem}"):
            for full in (candidate, *(f"{candidate}{suffix}" for suffix in _PACKED)):
                if (place.parent / full).is_file():
                    return place.parent / full
    return None
