"""A stand-in SPS_HOME: every file that python-fsps 0.4.8 (MIST + MILES) opens, holding black bodies.

The true FSPS data (3 GB, no wheel) are rarely at hand. The engine does not care: given files of the right shape it runs
the same Fortran on them. Stars here are black bodies on main sequences and giant branches from scaling relations, so
every spectrum is smooth and known, while the IMF, the isochrone integration, the interpolation and the dust are FSPS's.

Shapes come from ``sps_setup.f90`` and ``sps_vars.f90``, which the wheel carries. Files of equal content are hard links:
about 45 MB in all. ``python tests/support/sps_home.py FOLDER`` writes one to look at.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

N_WAVE = 5994  # nspec with MILES
N_ISOCHRONE_AGES = 107  # nt with MIST
LOGZSOL = (-2.5, -2.0, -1.75, -1.5, -1.25, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5)
"""MIST's metallicities, log10(Z/0.0142): `zlegend.dat` spells them ``m2.50`` ... ``p0.50``."""
N_FILTERS = 159

_C = 2.9979e18  # Angstrom/s, FSPS's value
_HCK = 1.43878e8  # h c / k, Angstrom K
_H = 6.6261e-27
_SIGMA = 5.6704e-5
_T_SUN = 5777.0

Array = NDArray[np.float64]


def wavelengths() -> Array:
    """``(5994,)`` vacuum Angstrom, 91 A to 1 cm, 0.9 A apart in the optical as MILES is."""
    optical = np.arange(3600.0, 7400.0, 0.9)
    blue = np.geomspace(91.0, 3600.0, 700, endpoint=False)
    red = np.geomspace(7400.0, 1e8, N_WAVE - blue.size - optical.size)
    return np.concatenate([blue, optical, red])


def log_ages() -> Array:
    """``(107,)`` log10(age/yr) of MIST: 5.00 to 10.30 by 0.05."""
    return 5.0 + 0.05 * np.arange(N_ISOCHRONE_AGES)


def planck(wave: Array, temperature: float) -> Array:
    """B_nu, erg/s/cm2/Hz/sr."""
    nu = _C / wave
    with np.errstate(over="ignore"):
        return 2 * _H * nu**3 / (_C * 1e-8) ** 2 / np.expm1(np.minimum(_HCK / wave / temperature, 600.0))


def unit_blackbody(wave: Array, temperature: float) -> Array:
    """L_nu of a black body of unit luminosity, 1/Hz: what FSPS calls a library normalised to unity."""
    return np.pi * planck(wave, temperature) / (_SIGMA * temperature**4)


def isochrone(log_age: float, logzsol: float, n_main: int = 40, n_giant: int = 20) -> Array:
    """Stars of one age: rows of MIST's columns after the age.

    L = M^3.5, R = M^0.8, t_ms = 10 Gyr M^-2.5 (solar units), metal-poor stars hotter; giants are the stars 0-5 %
    above the turn-off mass, brightening by 100 while they cool to 4000 K.

    Returns
    -------
    Array
        ``(nstar, 8)``: initial mass, present mass, log L, log Teff, log g, C/O, phase (0 main sequence, 2 red giant),
        log Mdot.
    """
    turn_off = min(100.0, 10.0 ** ((log_age - 10.0) / -2.5))
    main = np.geomspace(0.1, turn_off, n_main)
    giant = turn_off * (1 + 0.05 * np.arange(1, n_giant + 1) / n_giant)
    mass = np.concatenate([main, giant])
    log_l, log_t = 3.5 * np.log10(mass), np.log10(_T_SUN) + (3.5 - 1.6) / 4 * np.log10(mass) - 0.03 * logzsol
    climb = np.concatenate([np.zeros(n_main), np.linspace(0, 1, n_giant)])
    log_l, log_t = log_l + 2 * climb, (1 - climb) * log_t + climb * (np.log10(4000.0) - 0.05 * logzsol)
    log_g = 4.44 + np.log10(mass) + 4 * (log_t - np.log10(_T_SUN)) - log_l
    phase = np.where(climb > 0, 2.0, 0.0)
    ones = np.ones_like(mass)
    return np.column_stack([mass, mass, log_l, log_t, log_g, 0.5 * ones, phase, -12 * ones])


def _lines(rows: Array, fmt: str = "%.5g") -> str:
    return "\n".join(" ".join(fmt % value for value in row) for row in np.atleast_2d(rows)) + "\n"


class StandIn:
    """Writes the tree under one folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.wave = wavelengths()

    def text(self, path: str, content: str, *copies: str) -> None:
        """Write `content` to `path`, and the same file under each name in `copies`."""
        target = self.home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        self.link(path, *copies)

    def link(self, path: str, *copies: str) -> None:
        """Give the file `path` further names."""
        for copy in copies:
            os.link(self.home / path, self.home / copy)

    def write(self) -> None:
        """Write everything."""
        self.isochrones()
        self.main_library()
        self.hot_stars()
        self.cool_stars()
        self.dust()
        self.nebular_and_xrb()
        self.photometry()

    def isochrones(self) -> None:
        """MIST: one file per metallicity, a ``#`` line before each age."""
        names = [f"{'m' if z < 0 else 'p'}{abs(z):4.2f}" for z in LOGZSOL]
        self.text("ISOCHRONES/MIST/zlegend.dat", "\n".join(names) + "\n")
        for name, logzsol in zip(names, LOGZSOL, strict=True):
            blocks = []
            for age in log_ages():
                stars = isochrone(age, logzsol)
                blocks.append("# age\n" + _lines(np.column_stack([np.full(len(stars), age), stars]), "%.6f"))
            self.text(f"ISOCHRONES/MIST/isoc_z{name}.dat", "".join(blocks))

    def main_library(self) -> None:
        """MILES: Eddington flux H_nu on (wave, Teff, log g), one direct-access float32 record per metallicity."""
        log_t, log_g = np.linspace(3.3, 4.7, 68), np.linspace(-1.02, 5.5, 19)
        self.text("SPECTRA/BaSeL3.1/basel_logt.dat", _lines(log_t[:, None], "%.6f"))
        self.text("SPECTRA/BaSeL3.1/basel_logg.dat", _lines(log_g[:, None], "%.6f"))
        self.text("SPECTRA/MILES/miles.lambda", _lines(self.wave[:, None], "%.6f"))
        self.text("SPECTRA/MILES/miles.res", "2.5\n" * N_WAVE)
        metallicities = ["0.0008", "0.0031", "0.0096", "0.0190", "0.0300"]
        self.text("SPECTRA/MILES/zlegend.dat", "\n".join(metallicities) + "\n")
        eddington = np.stack([planck(self.wave, 10.0**t) / 4 for t in log_t]).astype("<f4")
        names = [f"SPECTRA/MILES/imiles_z{z}.spectra.bin" for z in metallicities]
        np.broadcast_to(eddington, (log_g.size, *eddington.shape)).tofile(self.home / names[0])
        self.link(names[0], *names[1:])

    def hot_stars(self) -> None:
        """O stars (WMBasic), post-AGB stars and Wolf-Rayets, each normalised to unit luminosity."""
        hot = "SPECTRA/Hot_spectra/"
        log_t = np.linspace(4.4, 4.7, 11)
        self.text(hot + "WMBASIC.teff", _lines(log_t[:, None], "%.6f"))
        zs = [f"{z:.4f}" for z in 0.019 * 10 ** np.linspace(-2.0, 0.4, 12)]
        self.text(hot + "WMBASIC_zlegend.dat", "\n".join(zs) + "\n")
        wave = np.geomspace(91.0, 1e8, 5508)
        spectra = np.column_stack([unit_blackbody(wave, 10.0**t) for t in log_t])
        names = [f"{hot}WMBASIC_z{z}.spec" for z in zs]
        self.text(names[0], _lines(np.column_stack([wave, *[spectra] * 3]), "%.5e"), *names[1:])

        teff = np.linspace(5e4, 1.9e5, 14)
        self.text(hot + "ipagb.teff", _lines(teff[:, None], "%.1f"))
        wave = np.geomspace(91.0, 1e8, 9281)
        rows = np.column_stack([wave, *(unit_blackbody(wave, t) for t in teff)])
        self.text(hot + "ipagb_solar.spec", _lines(rows), hot + "ipagb_halo.spec")

        log_t = np.linspace(4.5, 5.2, 12)
        self.text(hot + "CMFGEN_WN.teff", _lines(log_t[:, None], "%.5f"), hot + "CMFGEN_WC.teff")
        wave = np.geomspace(91.0, 1e8, 1963)
        blocks = [
            f"{t:.4f} {z}\n" + _lines(unit_blackbody(wave, 10.0**t))
            for z in (0.001, 0.004, 0.008, 0.02, 0.04)
            for t in log_t
        ]
        self.text(hot + "CMFGEN_WN_Zall.spec", _lines(wave) + "".join(blocks), hot + "CMFGEN_WC_Zall.spec")

    def cool_stars(self) -> None:
        """TP-AGB libraries; no star of ours is in that phase, the engine reads them all the same."""
        agb = "SPECTRA/AGB_spectra/"
        oxygen, carbon, aringer = np.linspace(2500, 4000, 9), np.linspace(2500, 3600, 5), np.linspace(2400, 4000, 9)
        log_z = np.linspace(-2.5, 0.6, 22)
        rows = np.column_stack([np.arange(10), np.vstack([log_z, np.repeat(oxygen[:, None], 22, axis=1)])])
        self.text(agb + "Orich.teff", "# Teff\n" + _lines(rows))
        self.text(agb + "Crich.teff", "# Teff\n" + _lines(np.column_stack([np.arange(5), carbon])))
        self.text(agb + "Crich_Aringer.teff", _lines(aringer[:, None]))
        for name, temperatures, n in (
            ("Orich", oxygen, 6146),
            ("Crich", carbon, 6146),
            ("Crich_Aringer", aringer, 9032),
        ):
            wave = np.geomspace(91.0, 1e8, n)
            self.text(
                f"{agb}{name}.spec", _lines(np.column_stack([wave, *(unit_blackbody(wave, t) for t in temperatures)]))
            )

    def dust(self) -> None:
        """Dust emission, shells of AGB stars, AGN torus, and tabulated attenuation curves; all featureless."""
        um = np.geomspace(1.0, 1e4, 1001)
        bump = np.exp(-0.5 * (np.log(um / 100) / 0.5) ** 2) + 1e-10
        names = [f"dust/dustem/DL07_MW3.1_{k}0.dat" for k in range(7)]
        self.text(names[0], "#\n#\n" + _lines(np.column_stack([um, *[bump] * 44])), *names[1:])
        shells = "".join(f"{t} {tau}\n30*1.0\n" for t in range(2500, 4000, 250) for tau in np.linspace(-5, 2, 50))
        dusty = f"30\n{_lines(np.geomspace(1e3, 1e7, 30))}{shells}"
        self.text("dust/dusty/Orich_dusty.spec", dusty, "dust/dusty/Crich_dusty.spec")
        torus = "".join(f"{w:.5g} 9*1.0\n" for w in np.geomspace(1e3, 1e7, 125))
        self.text("dust/Nenkova08_y010_torusg_n10_q2.0.dat", "#\n#\n#\n5 10 20 30 40 60 80 100 150\n" + torus)
        witt = "".join(f"{w:.5g} 1.0 6*0.5\n" for _ in range(18) for w in np.geomspace(1e3, 3e4, 25))
        self.text("dust/alldirty_h.dat", "#\n#\n#\n" + witt, "dust/alldirty_c.dat")
        smc = "".join(f"{w:.5g} 1.0 {0.55 / w:.5g}\n" for w in np.geomspace(0.1, 2.2, 30)[::-1])
        self.text("dust/Gordon03_table4.dat", smc)

    def nebular_and_xrb(self) -> None:
        """Gas: a flat continuum and equal lines, per ionising photon; X-ray binaries: next to nothing."""
        wave, lines = np.geomspace(91.0, 1e8, 1963), np.geomspace(1000.0, 1e5, 166)
        grid = [
            f"{z:.3f} {age:.4g} {u:.2f}\n"
            for z in np.linspace(-2, 0.5, 11)
            for age in np.geomspace(1e6, 1e7, 10)
            for u in np.linspace(-4, -1, 7)
        ]
        self.text("nebular/ZAU_ND_mist.cont", "#\n" + _lines(wave) + "".join(f"{g}1963*1e-60\n" for g in grid))
        self.text("nebular/ZAU_ND_mist.lines", "#\n" + _lines(lines) + "".join(f"{g}166*1e-47\n" for g in grid))
        self.text("SPECTRA/xrb/xsp.lambda", _lines(np.geomspace(1.0, 1e8, 15000)[:, None], "%.7g"))
        fe_h = ["-1.30", "-1.00", "-0.80", "-0.70", "-0.50", "-0.40", "-0.30", "-0.20", "+0.00", "+0.20", "+0.30"]
        names = [f"SPECTRA/xrb/xsp_feh{f}.spec" for f in fe_h]
        self.text(names[0], "15000*1e-60\n" * 10, *names[1:])

    def photometry(self) -> None:
        """Vega, the Sun, filters (top hats), indices, and the two files that python-fsps itself reads or asks for."""
        wave = np.geomspace(91.0, 1e8, 1221)
        vega = _lines(np.column_stack([wave, planck(wave, 9600.0) / wave**2]))
        self.text("SPECTRA/A0V_KURUCZ_92.SED", "#\n" + vega)
        self.text("SPECTRA/SUN_STScI.SED", _lines(np.column_stack([wave, planck(wave, _T_SUN)])))
        top_hat = "4900 0\n5000 1\n6000 1\n6100 0\n"
        self.text("data/allfilters.dat", "# filter\n" + "# filter\n".join([top_hat] * N_FILTERS))
        self.text("data/allindices.dat", "#\n" * 4 + "5000 5010 4980 4990 5020 5030 1\n" * 30)
        self.text("data/FILTER_LIST", "".join(f"{i + 1}\tband{i + 1}\tTop hat\n" for i in range(N_FILTERS)))
        self.text("data/emlines_info.dat", "".join(f"{w:.4f},line\n" for w in np.geomspace(1000.0, 1e5, 166)))


def write_stand_in(home: Path) -> Path:
    """Write the stand-in under `home` (created, must be empty) and return it."""
    home.mkdir(parents=True, exist_ok=True)
    StandIn(home).write()
    return home


if __name__ == "__main__":
    print(write_stand_in(Path(sys.argv[1])))
