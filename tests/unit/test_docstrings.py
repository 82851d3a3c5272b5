"""Public functions of the physics packages document every argument, by name and in the signature's order (PR01)."""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString

import provabgs

ROOT = Path(provabgs.__file__).parent
PACKAGES = ("sps", "observe", "inference", "catalog", "population")
MODULES = sorted(str(p.relative_to(ROOT)) for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
FEWEST = 2
"""Arguments from which on a Parameters section is asked for; self and cls do not count."""


def public_functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Public functions of a module, and public methods of its public classes, with their names."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef) or child.name.startswith("_"):
            continue
        if isinstance(child, ast.ClassDef):
            yield from public_functions(child, f"{prefix}{child.name}.")
        else:
            yield prefix + child.name, child


def arguments(function: ast.FunctionDef) -> list[str]:
    """Names of the arguments in order, stars in front of variadic ones."""
    a = function.args
    names = [x.arg for x in (*a.posonlyargs, *a.args)]
    names += [f"*{a.vararg.arg}"] if a.vararg else []
    names += [x.arg for x in a.kwonlyargs]
    names += [f"**{a.kwarg.arg}"] if a.kwarg else []
    return [n for n in names if n not in ("self", "cls")]


def documented(function: ast.FunctionDef) -> list[str]:
    """Names in the Parameters section in order; one entry may name several."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a section twice, or of an unknown name
        sections = NumpyDocString(ast.get_docstring(function) or "")
    return [name.strip() for entry in sections["Parameters"] for name in entry.name.split(",")]


def undocumented(source: str) -> list[str]:
    """What differs between signatures and docstrings of a module, in words."""
    wrong = []
    for name, function in public_functions(ast.parse(source)):
        expected, found = arguments(function), documented(function)
        if len(expected) >= FEWEST and found != expected:
            wrong.append(f"{name}, line {function.lineno}: Parameters are {found}, the signature has {expected}")
    return wrong


@pytest.mark.parametrize("module", MODULES)
def test_every_argument_is_documented(module):
    assert undocumented((ROOT / module).read_text()) == []


def module_with(section: str) -> str:
    """A module whose one class has a method of two arguments with this text in its docstring."""
    doc = textwrap.indent(f'"""Flux of a spectrum.\n\n{section}\n"""', " " * 8)
    return f"class Model:\n    def flux(self, wave, redshift):\n{doc}\n"


def test_a_complete_section_passes():
    assert undocumented(module_with("Parameters\n----------\nwave\n    Angstrom.\nredshift\n    Of the galaxy.")) == []
    assert undocumented(module_with("Parameters\n----------\nwave, redshift\n    Of the galaxy.")) == []


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ("Of a galaxy at `redshift`.", "[]"),
        ("Parameters\n----------\nwave\n    Angstrom.", "['wave']"),
        ("Parameters\n----------\nwave\n    Angstrom.\nz\n    Of the galaxy.", "['wave', 'z']"),
        ("Parameters\n----------\nredshift\n    Of the galaxy.\nwave\n    Angstrom.", "['redshift', 'wave']"),
    ],
    ids=["no section", "one missing", "wrong name", "wrong order"],
)
def test_the_check_would_fail(section, found):
    (message,) = undocumented(module_with(section))
    assert message == f"Model.flux, line 2: Parameters are {found}, the signature has ['wave', 'redshift']"


def test_a_function_without_docstring_fails():
    assert len(undocumented("def flux(wave, *bands, redshift=0.1, **options):\n    return wave\n")) == 1


def test_private_and_short_functions_are_left_to_their_authors():
    assert undocumented("def _flux(wave, z):\n    pass\n\ndef mass(z):\n    pass\n") == []
    assert undocumented("class _Model:\n    def flux(self, wave, z):\n        pass\n") == []


def test_the_packages_are_found():
    assert len(MODULES) > 100
    assert {module.split("/")[0] for module in MODULES} == set(PACKAGES)
