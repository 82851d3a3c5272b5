"""Sphinx configuration; build with ``make docs``."""

from __future__ import annotations

import provabgs

project = "provabgs"
author = "The PROVABGS developers"
copyright = f"2026, {author}"
release = version = provabgs.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # examples of the documentation are run by the tests
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}  # autosummary writes the first kind
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

autosummary_generate = True  # one page per module of the packages that api.md names
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_ivar = True  # fields under "Attributes" are described once, by their class
suppress_warnings = ["ref.python"]  # field names that several classes share have no single target

html_theme = "furo"
html_title = f"provabgs {release}"
