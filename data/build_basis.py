"""Build the shipped spectral basis: ``python -m provabgs.data.build_basis -o data/basis_mist_miles_chabrier.h5``."""

from __future__ import annotations

import argparse
from pathlib import Path

from provabgs.inference.compressed.basis import build_basis, save_basis
from provabgs.sps.model import SPSModel


def main() -> None:
    """Build the basis of the default library and model, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    model = SPSModel()
    save_basis(build_basis(model), args.output, model)


if __name__ == "__main__":
    main()
