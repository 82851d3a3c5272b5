"""The arrows of docs/architecture.md, held against every import statement."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CHAIN = (
    *("sps", "observe", "surveys", "desi", "sdss", "inference", "catalog", "population", "mocks"),
    *("pipelines", "api", "cli"),
)
"""Each may import what stands to its left."""
LEAVES = frozenset({"core", "data", ""})
"""Open to everyone, depending on nothing but one another; "" is ``import provabgs`` itself, for its version."""
ALLOWED: dict[str, frozenset[str]] = {name: frozenset(CHAIN[:i]) for i, name in enumerate(CHAIN)} | {
    "emulator": frozenset({"sps", "observe"}),
    "plotting": frozenset(CHAIN[: CHAIN.index("mocks")]),
    "gallery": frozenset({*CHAIN[: CHAIN.index("mocks")], "plotting"}),
    **dict.fromkeys(LEAVES, frozenset()),
}
ALLOWED["inference"] |= {"emulator"}
for _late in ("catalog", "population", "mocks", "pipelines", "cli", "api"):
    ALLOWED[_late] |= {"emulator", "plotting"} if _late in ("mocks", "pipelines", "api", "cli") else {"emulator"}
ALLOWED["cli"] |= {"gallery"}
ALLOWED["scripts"] = frozenset({*CHAIN, "emulator"}) - {"cli"}
"""Scripts beside the data files build them, with whatever it takes; nobody imports them."""
HOME = {"mocks": ROOT / "mocks", "pipelines": ROOT / "pipelines", "data": ROOT / "data"}


def layer_of(module: str) -> str:
    """``provabgs.observe.filters`` -> ``observe``."""
    return [*module.split("."), ""][1]


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``, which never run."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runtime_nodes(child)


def imported_modules(tree: ast.AST) -> set[str]:
    """Modules of ours that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in runtime_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            found |= (
                {f"{node.module}.{a.name}" for a in node.names} if node.module == "provabgs" else {str(node.module)}
            )
    return {m for m in found if m == "provabgs" or m.startswith("provabgs.")}


def sources() -> list[tuple[str, Path]]:
    """``(layer, file)`` of every module."""
    found = []
    for file in sorted((ROOT / "provabgs").rglob("*.py")):
        parts = file.relative_to(ROOT / "provabgs").with_suffix("").parts
        found.append(("" if parts == ("__init__",) else parts[0], file))
    for layer, folder in HOME.items():
        for file in sorted(folder.rglob("*.py")):
            found.append(("scripts" if layer == "data" and file.name != "__init__.py" else layer, file))
    return found


def violations(layer: str, tree: ast.AST) -> set[str]:
    """Modules that a module of `layer` must not import."""
    bad = set()
    for module in imported_modules(tree):
        target = layer_of(module)
        if target == "__version__":
            target = ""
        if target != layer and target not in LEAVES | ALLOWED[layer]:
            bad.add(module)
    return bad


@pytest.mark.parametrize(
    ("layer", "file"), sources(), ids=lambda x: str(x.relative_to(ROOT)) if isinstance(x, Path) else ""
)
def test_dependencies_point_one_way(layer: str, file: Path) -> None:
    assert layer in ALLOWED, f"{file}: layer {layer!r} is not in docs/architecture.md"
    assert not violations(layer, ast.parse(file.read_text())), f"{file.relative_to(ROOT)} reaches against the arrows"


@pytest.mark.parametrize(
    ("layer", "code", "bad"),
    [
        ("sps", "from provabgs.observe.filters import load_filter", {"provabgs.observe.filters"}),
        ("observe", "def f():\n    import provabgs.inference.fit_observation", {"provabgs.inference.fit_observation"}),
        ("inference", "from provabgs import catalog", {"provabgs.catalog"}),
        ("observe", "from provabgs.sps.library import SSPLibrary", set()),
        ("sps", "if TYPE_CHECKING:\n    from provabgs.cli.main import app", set()),
        ("core", "from provabgs.sps import parameters", {"provabgs.sps"}),
        ("plotting", "import provabgs.mocks.sed", {"provabgs.mocks.sed"}),
        ("gallery", "from provabgs.plotting.corner import plot_corner", set()),
        ("plotting", "from provabgs.gallery.page import page_of", {"provabgs.gallery.page"}),
    ],
)
def test_the_check_sees_what_it_should(layer: str, code: str, bad: set[str]) -> None:
    assert violations(layer, ast.parse(code)) == bad


def test_only_one_module_imports_jax() -> None:
    """JAX is configured in one place, so it is imported in one place."""
    for _, file in sources():
        if file.name == "jax.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not any(n == "jax" for n in names), f"{file.relative_to(ROOT)}: import JAX from provabgs.core.jax"
