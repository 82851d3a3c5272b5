"""Photometric systems as data: one TOML file per survey, read into a `PhotometricSystem`."""

from provabgs.surveys.columns import survey_columns
from provabgs.surveys.load import SHIPPED, load_system
from provabgs.surveys.system import Band, PhotometricSystem

__all__ = ["SHIPPED", "Band", "PhotometricSystem", "load_system", "survey_columns"]
