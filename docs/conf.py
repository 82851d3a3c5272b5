"""Sphinx configuration; build with ``make docs``."""

from __future__ import annotations

import provabgs

project = "provabgs"
author = "The PROVABGS developers"
copyright = f"2026, {author}"
release = version = provabgs.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # examples of the documentation are run by the tests
source_suffix = {".md": "myst-nb"}
exclude_patterns = ["_build"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = False

html_theme = "furo"
html_title = f"provabgs {release}"
