"""Emulator weights as a file: HDF5 with hash, ranges, training curve and provenance; nothing in it is ever executed."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provabgs.core.hdf5 import create, reading
from provabgs.core.jax import jax, jnp
from provabgs.emulator.component import CHECKED, ComponentEmulator, Functions
from provabgs.emulator.encoding import Encoding
from provabgs.emulator.errors import EmulatorFileError
from provabgs.emulator.mixture import BurstTable, EmulatorArrays, Layout
from provabgs.emulator.network import Network
from provabgs.emulator.training_spectra import Parts

FORMAT = "provabgs-emulator-1"
_DOUBLE = ("wave", "low", "high")
_CURVE = "training_curve"
_CURE = "train one with `provabgs emulator train`, or copy it again"
_LAYOUT = ("n_young", "n_old", "n_basis")

Arrays = dict[str, NDArray]


def save_emulator(emulator: ComponentEmulator, path: str | Path, curve: NDArray[np.float64] | None = None) -> None:
    """Write weights.

    Parameters
    ----------
    emulator
        What to write.
    path
        File; written as it is: callers who need atomicity give a temporary name.
    curve
        ``(nlook, 3)`` training curve: step, training and held-out error.
    """
    arrays = _to_arrays(emulator)
    attributes: dict[str, Any] = {"conventions": emulator.conventions, "library_sha256": emulator.library_digest}
    attributes |= {name: int(getattr(emulator.layout, name)) for name in _LAYOUT}
    with create(path) as f:
        f.attrs["format"] = FORMAT
        f.attrs["checked"] = ", ".join(CHECKED)
        f.attrs.update(attributes)
        f.attrs["sha256"] = digest(arrays, attributes)
        provenance = f.create_group("provenance")
        provenance.attrs.update(emulator.provenance)
        for name, array in arrays.items():
            f.create_dataset(
                name,
                data=array,
                compression="gzip" if array.size > 1000 else None,
                shuffle=True if array.size > 1000 else None,
            )
        if curve is not None:
            f.create_dataset(_CURVE, data=curve).attrs["columns"] = "step, training error, held-out error"


def load_emulator(path: str | Path) -> ComponentEmulator:
    """Read weights.

    Raises
    ------
    EmulatorFileError
        When the file is missing, not HDF5, of another version, incomplete, holds NaN, or does not match its hash.
    """
    with reading(Path(path), FORMAT, "emulator weights", _CURE, EmulatorFileError) as contents:
        arrays: Arrays = {name: contents.numbers(name) for name in contents.arrays if name != _CURVE}
        attributes: dict[str, Any] = {k: contents.text(k) for k in ("conventions", "library_sha256")}
        attributes |= {k: contents.whole(k) for k in _LAYOUT}
        if digest(arrays, attributes) != contents.text("sha256"):
            raise EmulatorFileError(f"{path}: content does not match its recorded SHA-256; damaged, copy it again")
        return _from_arrays(arrays, attributes, contents.words("provenance"))


@lru_cache(maxsize=4)
def default_emulator(conventions: str = "paper") -> ComponentEmulator:
    """Weights that ship, by conventions (`provabgs.inference.config.Conventions`); read once per process.

    Raises
    ------
    EmulatorFileError
        For conventions that no weights ship for.
    """
    from provabgs.data import data_path

    names = {"paper": "emulator_paper.h5", "published-code": "emulator_published.h5"}
    if conventions not in names:
        raise EmulatorFileError(f"no weights ship for {conventions!r} conventions; there are: {', '.join(names)}")
    return load_emulator(data_path(names[conventions]))


def training_curve(path: str | Path) -> NDArray[np.float64]:
    """Training curve of a weights file, ``(nlook, 3)``; empty when it holds none."""
    with reading(Path(path), FORMAT, "emulator weights", _CURE, EmulatorFileError) as contents:
        return contents.numbers(_CURVE) if _CURVE in contents.arrays else np.zeros((0, 3))


def digest(arrays: Arrays, attributes: dict[str, Any]) -> str:
    """SHA-256 over names and contents."""
    h = hashlib.sha256()
    for name in sorted(arrays):
        h.update(name.encode())
        h.update(np.ascontiguousarray(arrays[name]).tobytes())
    for name in sorted(attributes):
        h.update(f"{name}={attributes[name]}".encode())
    return h.hexdigest()


def _to_arrays(emulator: ComponentEmulator) -> Arrays:
    a = emulator.arrays
    out: Arrays = {name: np.asarray(getattr(emulator, name), np.float64) for name in _DOUBLE}
    out |= {f"functions/{k}": v for k, v in emulator.functions._asdict().items()}
    out |= {f"parts/{k}": np.array(v, np.int64) for k, v in emulator.layout.parts._asdict().items()}
    for i, (w, b) in enumerate(a.network.hidden):
        out[f"network/W{i}"], out[f"network/b{i}"] = np.asarray(w), np.asarray(b)
    named = {"network/last": a.network.last, "network/shift": a.shift, "network/scale": a.scale}
    named |= {f"encoding/{k}": v for k, v in a.encoding._asdict().items()}
    named |= {f"burst/{k}": v for k, v in a.burst._asdict().items()}
    out |= {k: np.asarray(v) for k, v in named.items()}
    return {
        k: np.asarray(v) if k in _DOUBLE or k.startswith("parts/") else np.asarray(v, np.float32)
        for k, v in out.items()
    }


def _check_shapes(arrays: Arrays, layout: Layout) -> None:
    """Raise ValueError unless arrays fit together."""
    n_wave, n_node, n_met = (arrays[k].size for k in ("wave", "burst/log_age", "burst/log_z"))
    n_burst, n_feature = arrays["functions/burst"].shape[0], arrays["network/W0"].shape[0]
    expected: dict[str, tuple[int, ...]] = {
        "wave": (n_wave,), "low": (len(CHECKED),), "high": (len(CHECKED),),
        "functions/young": (layout.n_young, n_wave), "functions/old": (layout.n_old, n_wave),
        "functions/burst": (n_burst, n_wave), "burst/table": (n_met * n_node, n_burst),
        "burst/log_age": (n_node,), "burst/log_z": (n_met,), "burst/zh": (2, n_node), "burst/young": (n_node,),
        "network/shift": (layout.n_output,), "network/scale": (layout.n_output,),
    }  # fmt: skip
    width = n_feature
    for i in range(sum(name.startswith("network/W") for name in arrays)):
        after = arrays[f"network/b{i}"].size
        expected |= {f"network/W{i}": (width, after), f"network/b{i}": (after,)}
        width = after
    expected["network/last"] = (width + n_feature + 1, layout.n_output)
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, the other arrays say {shape}")
    if not (np.all(np.diff(arrays["wave"]) > 0) and arrays["wave"][0] > 0):
        raise ValueError("wavelengths are not increasing")
    if not np.all(arrays["low"] < arrays["high"]):
        raise ValueError("its training range is empty")
    used = (*layout.parts.young, *layout.parts.old)
    if not all(0 <= k < layout.n_basis for k in used):
        raise ValueError(f"its parts name SFH bases beyond {layout.n_basis}")


def _from_arrays(arrays: Arrays, attributes: dict[str, Any], provenance: dict[str, str]) -> ComponentEmulator:
    def single(name: str) -> jax.Array:
        return jnp.asarray(arrays[name], jnp.float32)

    n_hidden = sum(name.startswith("network/W") for name in arrays)
    network = Network(
        tuple((single(f"network/W{i}"), single(f"network/b{i}")) for i in range(n_hidden)), single("network/last")
    )
    encoding = Encoding(*(single(f"encoding/{k}") for k in Encoding._fields))
    burst = BurstTable(*(single(f"burst/{k}") for k in BurstTable._fields))
    parts = Parts(*(tuple(int(i) for i in arrays[f"parts/{k}"]) for k in Parts._fields))
    layout = Layout(parts, *(attributes[k] for k in _LAYOUT))
    _check_shapes(arrays, layout)
    return ComponentEmulator(
        wave=arrays["wave"],
        functions=Functions(*(arrays[f"functions/{k}"] for k in Functions._fields)),
        arrays=EmulatorArrays(encoding, network, single("network/shift"), single("network/scale"), burst),
        layout=layout,
        low=arrays["low"],
        high=arrays["high"],
        conventions=attributes["conventions"],
        library_digest=attributes["library_sha256"],
        provenance=provenance,
    )
