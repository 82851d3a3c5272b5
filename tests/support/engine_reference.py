"""Ask python-fsps itself, in a process of its own: ``python engine_reference.py CASES.json OUT.npz``.

Each case is ``{"name", "zcontinuous", "tage", "params": {...}, "sfh": {"age", "sfr", "z"} or absent}``; the answer
holds ``<name>`` (spectrum, Lsun/Angstrom) and ``<name>.mass`` (surviving mass), and ``wave``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import fsps
import numpy as np


def main(cases: Path, output: Path) -> None:
    answers = {}
    for case in json.loads(cases.read_text()):
        population = fsps.StellarPopulation(
            zcontinuous=case["zcontinuous"], imf_type=1, add_dust_emission=False, **case["params"]
        )
        if table := case.get("sfh"):
            z = np.array(table["z"]) if table["z"] is not None else None
            population.set_tabular_sfh(np.array(table["age"]), np.array(table["sfr"]), z)
        wave, spectrum = population.get_spectrum(tage=case["tage"], peraa=True)
        answers |= {"wave": wave, case["name"]: spectrum, f"{case['name']}.mass": population.stellar_mass}
    np.savez(output, **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
