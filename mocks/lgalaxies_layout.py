"""Record layouts of L-GALAXIES binary output, field by field, with the byte offsets they imply.

The binary files carry no description of themselves and their records change with the code's compile-time options, so
a reader must know the layout beforehand and must refuse any file whose size does not fit it. Layouts follow the
public release's output structure (``GALAXY_OUTPUT``, little-endian, packed): Henriques et al. (2015, MNRAS 451, 2663)
with halo properties and star-formation histories on and magnitudes off, and the 2020 release (Henriques et al. 2020,
MNRAS 491, 5795; Yates et al. 2021) with rings, metal channels and elements.
"""

from __future__ import annotations

import numpy as np

SFH_NBIN = 20
"""History bins per record in Millennium runs (the code's ``SFH_NBIN``)."""

_Field = tuple[str, str, tuple[int, ...]]


def _fields(names: str, kind: str = "<f4", shape: tuple[int, ...] = ()) -> list[_Field]:
    return [(name, kind, shape) for name in names.split()]


SFH_BINS_DTYPE = np.dtype(
    [("snapnum", "<i4"), ("bin", "<i4"), ("lookback_yr", "<f8"), ("dt_yr", "<f8"), ("n_merged", "<i4")]
)
"""Row of ``SFH_Bins``: snapshot, bin (0 is the oldest), centre and width in years *before that snapshot*."""

_HALO = [
    *_fields("Type HaloIndex", "<i4"),
    *_fields("HaloM_Mean200 HaloM_Crit200 HaloM_TopHat"),
    *_fields("HaloPos HaloVel", shape=(3,)),
    *_fields("HaloVelDisp HaloVmax"),
    *_fields("HaloSpin", shape=(3,)),
    *_fields("SnapNum", "<i4"),
    *_fields("LookBackTimeToSnap CentralMvir CentralRvir"),
    *_fields("DistanceToCentralGal Pos Vel", shape=(3,)),
    *_fields("Len", "<i4"),
    *_fields("Mvir Rvir Vvir Vmax"),
]

H15_DTYPE = np.dtype(
    [
        *_HALO,
        *_fields("GasSpin StellarSpin", shape=(3,)),
        *_fields("InfallVmax InfallVmaxPeak"),
        *_fields("InfallSnap", "<i4"),
        *_fields("InfallHotGas HotRadius OriMergTime MergTime"),
        *_fields("ColdGas StellarMass BulgeMass DiskMass HotGas EjectedMass BlackHoleMass ICM"),
        *_fields("MetalsColdGas MetalsStellarMass MetalsBulgeMass MetalsDiskMass MetalsHotGas MetalsEjectedMass"),
        *_fields("MetalsICM PrimordialAccretionRate CoolingRadius CoolingRate CoolingRate_beforeAGN"),
        *_fields("QuasarAccretionRate RadioAccretionRate Sfr SfrBulge XrayLum BulgeSize StellarDiskRadius"),
        *_fields("GasDiskRadius CosInclination"),
        *_fields("DisruptOn MergeOn", "<i4"),
        *_fields("MassWeightAge"),
        *_fields("sfh_ibin sfh_numbins", "<i4"),
        *_fields("sfh_DiskMass sfh_BulgeMass sfh_ICM", shape=(SFH_NBIN,)),
        *_fields("sfh_MetalsDiskMass sfh_MetalsBulgeMass sfh_MetalsICM", shape=(SFH_NBIN,)),
    ]
)
"""One galaxy of the 2015 snapshot output, 800 bytes."""


def h20_dtype(n_ring: int = 12, n_channel: int = 3, n_element: int = 11, n_mag: int = 5) -> np.dtype[np.void]:
    """One galaxy of the 2020 snapshot output (rings, metal channels, elements, rest-frame magnitudes; no dust).

    Parameters
    ----------
    n_ring, n_channel, n_element, n_mag
        The code's ``RNUM``, ``NUM_METAL_CHANNELS``, ``NUM_ELEMENTS`` and ``NMAG``; they must be those of the run.
    """
    ring, channel, element = (n_ring,), (n_channel,), (n_element,)
    ring_channel, ring_element = (n_ring, n_channel), (n_ring, n_element)
    return np.dtype(
        [
            *_HALO,
            *_fields("ColdGasSpin DiskSpin", shape=(3,)),
            *_fields("InfallVmax InfallVmaxPeak"),
            *_fields("InfallSnap", "<i4"),
            *_fields("InfallHotGas HotRadius OriMergTime MergTime ColdGas"),
            *_fields("ColdGasRings", shape=ring),
            *_fields("H2fraction"),
            *_fields("H2fractionRings", shape=ring),
            *_fields("StellarMass DiskMass BulgeMass"),
            *_fields("DiskMassRings BulgeMassRings", shape=ring),
            *_fields("HotGas EjectedMass BlackHoleMass ICM MassFromInSitu MassFromMergers MassFromBursts"),
            *_fields("MetalsColdGas", shape=channel),
            *_fields("MetalsColdGasRings", shape=ring_channel),
            *_fields("MetalsStellarMass MetalsDiskMass MetalsBulgeMass", shape=channel),
            *_fields("MetalsDiskMassRings MetalsBulgeMassRings", shape=ring_channel),
            *_fields("MetalsHotGas MetalsEjectedMass MetalsICM", shape=channel),
            *_fields("DiskSNIIRate BulgeSNIIRate ICMSNIIRate MassReturnRateToColdGas MassReturnRateToHotGas"),
            *_fields("MetalsReturnRateToHotGas PrimordialAccretionRate CoolingRadius ReheatingRate"),
            *_fields("MetalsReheatingRate EjectionRate CoolingRate CoolingRate_beforeAGN QuasarAccretionRate"),
            *_fields("RadioAccretionRate Sfr"),
            *_fields("SfrRings", shape=ring),
            *_fields("SfrBulge XrayLum BulgeSize DiskRadius ColdGasRadius StellarHalfMassRadius"),
            *_fields("StellarHalfLightRadius CosInclination"),
            *_fields("DisruptOn MergeOn", "<i4"),
            *_fields("MagDust Mag MagBulge", shape=(n_mag,)),
            *_fields("MassWeightAge rbandWeightAge"),
            *_fields("sfh_ibin sfh_numbins", "<i4"),
            *_fields("sfh_DiskMass sfh_BulgeMass", shape=(SFH_NBIN,)),
            *_fields("sfh_DiskMassRings sfh_BulgeMassRings", shape=(n_ring, SFH_NBIN)),
            *_fields("sfh_ICM", shape=(SFH_NBIN,)),
            *_fields("sfh_MetalsDiskMass sfh_MetalsBulgeMass sfh_MetalsICM", shape=(SFH_NBIN, n_channel)),
            *_fields("sfh_DiskMass_elements sfh_BulgeMass_elements sfh_ICM_elements", shape=(SFH_NBIN, n_element)),
            *_fields("DiskMass_elements BulgeMass_elements", shape=element),
            *_fields("DiskMassRings_elements BulgeMassRings_elements", shape=ring_element),
            *_fields("ColdGas_elements", shape=element),
            *_fields("ColdGasRings_elements", shape=ring_element),
            *_fields("HotGas_elements ICM_elements EjectedMass_elements", shape=element),
        ]
    )
