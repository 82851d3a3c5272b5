"""The one table of model parameters; priors, samplers, stores, plots and docs read from here.

Order and meaning follow the published catalog (Hahn et al. 2023, arXiv:2202.01809, table 1; section 7 of
docs/guide/model.md), so that a row of `PROVABGS_MCMC` and a row of our samples hold the same thirteen numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PriorKind = Literal["uniform", "log-uniform", "flat-dirichlet", "normal"]


@dataclass(frozen=True)
class Parameter:
    """One model parameter.

    Attributes
    ----------
    name
        Name used in Python, configs and stores.
    column
        Upper-case name used in catalog tables.
    symbol
        LaTeX for axis labels, without dollar signs.
    unit
        Unit, empty when dimensionless.
    prior
        Kind of the default prior.
    bounds
        Lower and upper edge of the default prior. For ``normal`` the support, not the width.
    description
        What it is, in one line.
    """

    name: str
    column: str
    symbol: str
    unit: str
    prior: PriorKind
    bounds: tuple[float, float]
    description: str


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "logmstar",
        "LOGMSTAR_FORMED",
        r"\log_{10} M_{\rm formed}/M_\odot",
        "dex(Msun)",
        "uniform",
        (7.0, 12.5),
        "log10 of the stellar mass formed",
    ),
    Parameter("beta1", "BETA1", r"\beta_1", "", "flat-dirichlet", (0.0, 1.0), "weight of NMF SFH basis 1"),
    Parameter("beta2", "BETA2", r"\beta_2", "", "flat-dirichlet", (0.0, 1.0), "weight of NMF SFH basis 2"),
    Parameter("beta3", "BETA3", r"\beta_3", "", "flat-dirichlet", (0.0, 1.0), "weight of NMF SFH basis 3"),
    Parameter("beta4", "BETA4", r"\beta_4", "", "flat-dirichlet", (0.0, 1.0), "weight of NMF SFH basis 4"),
    Parameter(
        "fburst", "FBURST", r"f_{\rm burst}", "", "uniform", (0.0, 1.0), "fraction of the formed mass in one burst"
    ),
    Parameter("tburst", "TBURST", r"t_{\rm burst}", "Gyr", "uniform", (0.01, 13.27), "lookback time of the burst"),
    Parameter(
        "gamma1",
        "GAMMA1",
        r"\gamma_1",
        "",
        "log-uniform",
        (4.5e-5, 1.5e-2),
        "weight of NMF metallicity-history basis 1, absolute Z",
    ),
    Parameter(
        "gamma2",
        "GAMMA2",
        r"\gamma_2",
        "",
        "log-uniform",
        (4.5e-5, 1.5e-2),
        "weight of NMF metallicity-history basis 2, absolute Z",
    ),
    Parameter(
        "tau_bc",
        "TAU_BC",
        r"\tau_{\rm BC}",
        "",
        "uniform",
        (0.0, 3.0),
        "birth-cloud optical depth at 5500 A, stars younger than 100 Myr",
    ),
    Parameter(
        "tau_ism",
        "TAU_ISM",
        r"\tau_{\rm ISM}",
        "",
        "uniform",
        (0.0, 3.0),
        "diffuse-ISM optical depth at 5500 A, all stars",
    ),
    Parameter(
        "n_dust",
        "N_DUST",
        r"n_{\rm dust}",
        "",
        "uniform",
        (-2.0, 1.0),
        "slope offset of the ISM attenuation curve from Calzetti's",
    ),
    Parameter(
        "f_fiber", "F_FIBER", r"f_{\rm fiber}", "", "normal", (0.0, float("inf")), "spectrum flux over total flux"
    ),
)

GAS: tuple[Parameter, ...] = (
    Parameter(
        "log_u",
        "LOG_U",
        r"\log_{10} U",
        "",
        "uniform",
        (-4.0, -1.0),
        "log10 of the gas's ionisation parameter",
    ),
    Parameter(
        "gas_logz",
        "GAS_LOGZ",
        r"\log_{10} Z_{\rm gas}/Z_\odot",
        "dex",
        "uniform",
        (-2.0, 0.5),
        "log10 of the gas's metallicity over solar",
    ),
)
"""Parameters of nebular emission where a fit leaves them free; a grid may be narrower (docs/guide/nebular.md)."""

NAMES: tuple[str, ...] = tuple(p.name for p in PARAMETERS)
"""The thirteen names in catalog order."""
INDEX: dict[str, int] = {name: i for i, name in enumerate(NAMES)}
"""Position of each name; code that handles a parameter vector looks positions up here."""
N_PARAMETERS: int = len(PARAMETERS)


@dataclass(frozen=True)
class DerivedProperty:
    """One property computed from the parameters, with the catalog column and label it goes by."""

    name: str
    column: str
    symbol: str
    unit: str
    description: str


DERIVED: tuple[DerivedProperty, ...] = (
    DerivedProperty(
        "logmstar_surviving",
        "LOGMSTAR",
        r"\log_{10} M_\ast/M_\odot",
        "dex(Msun)",
        "log10 of the surviving stellar mass (living stars and remnants)",
    ),
    DerivedProperty(
        "log_sfr_100myr",
        "LOGSFR_100MYR",
        r"\log_{10} {\rm SFR}_{100\,{\rm Myr}}",
        "dex(Msun / yr)",
        "log10 of the SFR averaged over the last 100 Myr",
    ),
    DerivedProperty(
        "log_sfr_1gyr",
        "LOGSFR_1GYR",
        r"\log_{10} {\rm SFR}_{1\,{\rm Gyr}}",
        "dex(Msun / yr)",
        "log10 of the SFR averaged over the last 1 Gyr",
    ),
    DerivedProperty(
        "log_z_mw",
        "LOGZ_MW",
        r"\log_{10} Z_{\rm MW}",
        "dex",
        "log10 of the mass-weighted metallicity, absolute, PROVABGS convention (solar = 0.0190)",
    ),
    DerivedProperty("t_age_mw", "T_AGE_MW", r"t_{\rm age,MW}", "Gyr", "mass-weighted stellar age"),
)

DERIVED_NAMES: tuple[str, ...] = tuple(d.name for d in DERIVED)


def label(name: str) -> str:
    """Axis label, LaTeX with unit, of a parameter or derived property."""
    table: tuple[Parameter | DerivedProperty, ...] = (*PARAMETERS, *GAS, *DERIVED)
    for entry in table:
        if entry.name == name:
            unit = f" [{entry.unit}]" if entry.unit and not entry.unit.startswith("dex") else ""
            return f"${entry.symbol}${unit}"
    raise KeyError(f"no parameter or derived property named {name!r}; known: {', '.join(e.name for e in table)}")
