"""Damaged files of our own formats from a seed, and what their readers say: catalogs, libraries, grids, weights, JSON.

    python -m tests.support.store_mutations FOLDER SEED FIRST COUNT

writes one line of JSON for each mutation, as `tests.support.mutations` does for DESI files.
"""

from __future__ import annotations

import copy
import hashlib
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from provabgs.core.hdf5 import LIBVER
from tests.support.mutations import MEMORY

ODD_NUMBERS = (0.0, -1.0, 1e300, -1e300, np.nan, np.inf, 3.0)
ODD_JSON = (None, [], {}, "", "x", -1, 1e308, True, [[[]]], {"a": 1}, float("nan"), 2**70, "\x1b[2J")


class Kind(NamedTuple):
    """One kind of file."""

    path: Path
    read: Callable[[], Any]
    """What is read, whose `fingerprint` must not change unnoticed."""
    sealed: bool
    """Whether its checksums cover whatever is read."""
    dishonest: Callable[[np.random.Generator], str] | None = None
    """Writes a file with a right checksum over wrong contents, and says what is wrong."""


def fingerprint(found: Any) -> str:
    """A digest of whatever was read."""
    h = hashlib.sha256()

    def add(value: Any) -> None:
        if is_dataclass(value) and not isinstance(value, type):
            for f in fields(value):
                if f.name != "provenance":
                    add(getattr(value, f.name))
        elif isinstance(value, (tuple, list)):
            for item in value:
                add(item)
        elif isinstance(value, dict):
            for key in sorted(value):
                h.update(str(key).encode())
                add(value[key])
        elif isinstance(value, (str, int, float, bool, type(None))):
            h.update(repr(value).encode())
        else:
            h.update(np.ascontiguousarray(value).tobytes())

    add(found)
    return h.hexdigest()


# ---- the files -------------------------------------------------------------------------------------------------------


def kinds(folder: Path) -> dict[str, Kind]:
    """Small good files of each kind, and how they are read."""
    return {**catalog_kinds(folder), **library_kinds(folder), **text_kinds(folder)}


def catalog_kinds(folder: Path) -> dict[str, Kind]:
    from provabgs.catalog import Catalog, read_posteriors, write_catalog, write_posteriors
    from provabgs.catalog.layout import SUMMARY_NAME, shard_paths
    from provabgs.pipelines.dry_run import synthetic_posterior

    rng = np.random.default_rng(0)
    made = [replace(synthetic_posterior(i, rng, 30, redshift=0.1), ra=10.0 + i // 4, dec=1.0) for i in range(8)]
    root, one = folder / "catalog", folder / "posteriors.h5"
    write_catalog(root, made, n_samples=8)
    write_posteriors(one, made[:4], n_samples=8)

    def ask() -> Any:
        with Catalog.open(root) as catalog:
            chosen = catalog.select("LOGMSTAR_P50 > 5 and not (Z > 0.3)")
            draws = chosen.samples(None, ["LOGMSTAR", "SFR_1GYR"])
            likely = chosen.probability("LOGMSTAR > 9")
            table = catalog.arrow(["TARGETID", "Z", "LOGMSTAR_P50", "MESSAGE", "SHARD"]).to_pydict()
            return [table, *(np.asarray(draws[c]) for c in draws.colnames), np.asarray(likely["PROBABILITY"])]

    def whole() -> Any:
        return [[p.targetid, p.samples, p.derived, p.message] for p in read_posteriors(one)]

    return {
        "summary": Kind(root / SUMMARY_NAME, ask, sealed=True),
        "shard": Kind(shard_paths(root)[0], ask, sealed=True),
        "posteriors": Kind(one, whole, sealed=True),
    }


def library_kinds(folder: Path) -> dict[str, Kind]:
    from provabgs.emulator.weights import default_emulator, load_emulator, save_emulator
    from provabgs.observe.template_error import TemplateError
    from provabgs.sps.dust_grid import DustGrid
    from provabgs.sps.library import SSPLibrary
    from provabgs.sps.nebular import NebularGrid
    from provabgs.sps.ultraviolet import UltravioletShapes
    from tests.support.small_library import small_library

    library = small_library(np.arange(3000.0, 9000.0, 300.0))
    nebular, dust, error = NebularGrid.default(), DustGrid.default(), TemplateError.default()
    nebular = replace(nebular, wave=nebular.wave[::40], continuum=nebular.continuum[..., ::40])
    dust = replace(dust, wave=dust.wave[::10], shape=dust.shape[..., ::10])
    thin = {name: getattr(error, name)[..., ::60] for name in ("wave", "modes", "residual", "transfer")}
    error = replace(error, **thin)
    weights = default_emulator()
    cut = weights.functions._replace(**{k: v[:, ::200] for k, v in weights.functions._asdict().items()})
    weights = replace(weights, wave=weights.wave[::200], functions=cut)
    made: dict[str, tuple[Any, Callable[[Any, Path], None], Callable[[Path], Any]]] = {
        "ssp": (library, lambda x, p: x.save(p), SSPLibrary.load),
        "nebular": (nebular, lambda x, p: x.save(p), NebularGrid.load),
        "dust": (dust, lambda x, p: x.save(p), DustGrid.load),
        "ultraviolet": (UltravioletShapes.default(), lambda x, p: x.save(p), UltravioletShapes.load),
        "template": (error, lambda x, p: x.save(p), TemplateError.load),
        "emulator": (weights, save_emulator, load_emulator),
    }
    out = {}
    for name, (good, save, load) in made.items():
        path = folder / f"{name}.h5"
        save(good, path)

        def dishonest(rng: np.random.Generator, good: Any = good, save: Any = save, path: Path = path) -> str:
            what, odd = odd_object(good, rng)
            whole = path.read_bytes()
            path.unlink()
            try:
                save(odd, path)
            except ValueError:  # what cannot be written is no danger to a reader
                path.write_bytes(whole)
                return f"{what}, not written"
            return what

        out[name] = Kind(path, lambda load=load, path=path: load(path), sealed=True, dishonest=dishonest)
    return out


def text_kinds(folder: Path) -> dict[str, Kind]:
    from provabgs.inference.config import FitConfig
    from provabgs.inference.prior_correction import Factor, PriorCorrection, load_correction
    from provabgs.pipelines.config import load_config, parse_config
    from provabgs.pipelines.manifest import MANIFEST_NAME, check_manifest

    out, prior, toml = folder / "out", folder / "prior.json", folder / "run.toml"
    out.mkdir()
    config = parse_config({"run": {"output": str(out)}, "inputs": {"paths": [str(folder)]}})
    check_manifest(config)
    factor = Factor(name="T_AGE_MW", nodes=(2.0, 5.0, 9.0), log_g=(0.1, 0.0, -0.1))
    PriorCorrection(redshift=0.2, factors=(factor,)).save(prior)
    toml.write_text(f'[run]\noutput = "{out}"\nseed = 3\n\n[inputs]\npaths = ["{folder}"]\nreader = "desi"\n\n[fit]\n')

    def manifest() -> str:
        check_manifest(config)
        FitConfig.model_validate(config.fit)
        return "same"

    return {
        "run.json": Kind(out / MANIFEST_NAME, manifest, sealed=False),
        "prior": Kind(prior, lambda: load_correction(prior).model_dump_json(), sealed=False),
        "run.toml": Kind(toml, lambda: load_config(toml).model_dump_json(), sealed=False),
    }


# ---- mutations -------------------------------------------------------------------------------------------------------


def odd_object(good: Any, rng: np.random.Generator) -> tuple[str, Any]:
    """A copy of an object, unchecked, one of whose arrays or numbers is not what it should be."""
    odd = copy.copy(good)
    names = [f.name for f in fields(good) if isinstance(getattr(good, f.name), (np.ndarray, float, int))]
    name = str(rng.choice(names))
    value = getattr(good, name)
    if not isinstance(value, np.ndarray):
        found: Any = type(value)(rng.choice([v for v in ODD_NUMBERS if np.isfinite(v)]))
        how = f"{found:g}"
    else:
        how = str(rng.choice(["number", "cut", "empty", "reverse", "scale", "axis", "zero", "negative"]))
        found = value.copy()
        if how == "number" and value.dtype.kind == "f" and value.size:
            found[tuple(int(rng.integers(n)) for n in value.shape)] = rng.choice(ODD_NUMBERS)
        elif how == "cut":
            found = value[: len(value) // 2]
        elif how == "empty":
            found = value[:0]
        elif how == "reverse":
            found = value[::-1].copy()
        elif how == "scale":
            found = (value * rng.choice([1e-10, 0.1, 1e4, 1e20])).astype(value.dtype)
        elif how == "axis":
            found = value[None]
        elif how == "zero":
            found = np.zeros_like(value)
        elif how == "negative":
            found = -value
    object.__setattr__(odd, name, found)
    return f"dishonest {name}: {how}", odd


def odd_bytes(data: bytearray, rng: np.random.Generator) -> str:
    """Damage of any file, in place."""
    what = str(rng.choice(["flips", "flip", "end", "noise", "zeros", "insert", "cut", "swap", "head"]))
    at, size = int(rng.integers(len(data))), int(rng.integers(1, 600))
    if what in ("flip", "flips"):
        for _ in range(1 if what == "flip" else int(rng.integers(2, 30))):
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    elif what == "head":  # where formats keep what their libraries believe
        for _ in range(int(rng.integers(1, 8))):
            place = int(rng.integers(min(2048, len(data))))
            data[place if rng.random() < 0.5 else len(data) - 1 - place] ^= 1 << int(rng.integers(8))
    elif what == "end":
        del data[at:]
    elif what == "noise":
        data[at : at + size] = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
    elif what == "zeros":
        data[at : at + size] = bytes(size)
    elif what == "insert":
        data[at:at] = bytes(size)
    elif what == "cut":
        del data[at : at + size]
    elif what == "swap":
        other = int(rng.integers(len(data)))
        data[at : at + size] = data[other : other + size]
    return what


def odd_tree(path: Path, rng: np.random.Generator) -> str:
    """An HDF5 file that is sound as such, one of whose objects is not what it should be."""
    with h5py.File(path, "r+", libver=LIBVER) as f:
        names: list[str] = []
        f.visit(names.append)
        name = str(rng.choice(names))
        item: Any = f[name]
        how = str(rng.choice(["delete", "group", "external", "soft", "text", "nan", "shape", "huge", "attr", "twice"]))
        if how == "attr":
            owner = item if len(item.attrs) and rng.random() < 0.5 else f
            key = str(rng.choice(list(owner.attrs)))
            odd: Any = (np.nan, -1, "x", np.zeros(3), h5py.Empty("f"), b"\xff", 10**18)[int(rng.integers(7))]
            owner.attrs[key] = odd
            return f"attr {name} {key}"
        if how == "twice":
            f[f"{name}_again"] = item
            return f"twice {name}"
        if how == "nan" and isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and item.ndim:
            item[tuple(int(rng.integers(n)) for n in item.shape)] = np.nan
            return f"nan {name}"
        del f[name]
        if how == "group":
            f.create_group(name)
        elif how == "external":
            f[name] = h5py.ExternalLink("/etc/passwd", "x")
        elif how == "soft":
            f[name] = h5py.SoftLink(f"/{name}" if rng.random() < 0.5 else "/")
        elif how == "text":
            f[name] = "words"
        elif how in ("shape", "nan"):
            f[name] = np.zeros((2, 0, 3))
        elif how == "huge":
            f.create_dataset(name, shape=(1 << 20, 1 << 20), dtype="f8", chunks=(64, 64), compression="gzip")
    return f"{how} {name}"


def odd_json(path: Path, rng: np.random.Generator) -> str:
    """A JSON file one of whose values is not what it should be."""
    if rng.random() < 0.05:
        path.write_text("[" * 100_000)
        return "deep"
    tree = json.loads(path.read_text())
    places: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        here = waiting.pop()
        for key in here if isinstance(here, dict) else range(len(here)):
            places.append((here, key))
            if isinstance(here[key], (dict, list)):
                waiting.append(here[key])
    here, key = places[int(rng.integers(len(places)))]
    if rng.random() < 0.15:
        del here[key]
    else:
        here[key] = ODD_JSON[int(rng.integers(len(ODD_JSON)))]
    path.write_text(json.dumps(tree))
    return f"json {key}"


def mutate(kind: Kind, rng: np.random.Generator) -> str:
    """Damage a file; returns how."""
    draw = rng.random()
    if kind.dishonest is not None and draw < 0.35:
        return kind.dishonest(rng)
    if kind.path.suffix == ".h5" and draw < 0.65:
        return odd_tree(kind.path, rng)
    if kind.path.suffix == ".json" and draw < 0.6:
        return odd_json(kind.path, rng)
    data = bytearray(kind.path.read_bytes())
    what = odd_bytes(data, rng)
    kind.path.write_bytes(data)
    return what


def outcome(kind: Kind, good: str, what: str) -> tuple[str, bool]:
    """How reading ends, and whether it ended with other answers than before."""
    from provabgs.core.errors import ProvabgsError

    try:
        seen = fingerprint(kind.read())
    except ProvabgsError as error:
        if len(str(error).splitlines()) != 1:
            return f"raised: an error of several lines: {error}", False
        if not any(name in str(error) for name in (kind.path.name, kind.path.parent.name)):
            return f"raised: an error that names no file: {error}", False
        return f"refused: {error}", False
    except Exception as error:
        return f"raised: {type(error).__name__}: {error}", False
    return "read", kind.sealed and seen != good and not what.startswith("dishonest")


def main(folder: Path, seed: int, first: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    known = kinds(folder)
    whole = {name: kind.path.read_bytes() for name, kind in known.items()}
    good = {name: fingerprint(kind.read()) for name, kind in known.items()}
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        name = str(rng.choice(list(known)))
        kind = known[name]
        what = mutate(kind, rng)
        start = time.perf_counter()
        ended, silent = outcome(kind, good[name], what)
        took = time.perf_counter() - start
        record = {"number": number, "kind": name, "what": what, "outcome": ended[:300], "silent": silent}
        print(json.dumps({**record, "seconds": round(took, 2)}), flush=True)
        kind.path.write_bytes(whole[name])


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(x) for x in sys.argv[2:5]))
