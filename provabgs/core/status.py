"""What became of one galaxy: the STATUS column of every catalog row."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of one target, from best to worst; only `CONVERGED` may be used without a second thought.

    The numbers are stored in catalogs and never change their meaning; new ones are added at the end of their group.
    """

    CONVERGED = 0
    """Every parameter and derived property passed the R-hat and effective-sample-size gate."""
    NOT_CONVERGED = 1
    """Samples exist; the budget ended before the convergence criterion was met, or starts of the sampler disagree."""
    ENGINE_ERROR = 2
    """Samples exist, of a likelihood that differs from the exact one by too much. See ENGINE_DLNL; refit with engine =
    'exact'."""

    UNOBSERVED = 10
    """No exposure: sky, stuck or unassigned fiber, COADD_NUMEXP = 0, or a negative TARGETID."""
    NO_VALID_PIXELS = 11
    """Every pixel is masked or has zero ivar, and there is no photometry to fit in its place."""
    NO_REDSHIFT = 12
    """No redrock row for this TARGETID, or its redshift is NaN."""
    REDSHIFT_OUT_OF_RANGE = 13
    """Redshift <= 0 or beyond what the SSP library and basis cover."""
    REDSHIFT_WARNING = 14
    """ZWARN is set (fitted only when asked to)."""
    NOT_A_GALAXY = 15
    """SPECTYPE is not GALAXY (fitted only when asked to)."""
    NO_PHOTOMETRY = 16
    """Photometry was required and every band has ivar 0."""
    BAD_DATA = 17
    """NaN or infinite flux with positive ivar, negative ivar, wavelengths out of order."""

    LIKELIHOOD_FAILED = 30
    """The likelihood is -inf or NaN everywhere it was tried."""
    TIMED_OUT = 32
    """The time limit for one galaxy ended before any sample was kept."""
    CRASHED = 33
    """The worker died or raised while on this galaxy, more often than the retry limit."""
    INPUT_ERROR = 34
    """The file or row could not be read; the message says why."""

    @property
    def has_samples(self) -> bool:
        """Whether a row of this status carries posterior samples."""
        return self in (Status.CONVERGED, Status.NOT_CONVERGED, Status.ENGINE_ERROR)
