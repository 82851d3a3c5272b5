"""Names in configurations to objects: how histories, emissions, noise terms, samplers and properties plug in.

A configuration names an object; nothing that is read from a file imports a module. Code that offers an object registers
it, and a configuration's ``plugins`` lists the modules that a *fit* imports first (`load_plugins`).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from provabgs.core.errors import ConfigError
from provabgs.core.messages import first_line, suggestion

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects by name.

    Parameters
    ----------
    what
        What the objects are, for messages.
    key
        Configuration key that names them.
    """

    def __init__(self, what: str, key: str) -> None:
        self.what, self.key = what, key
        self._known: dict[str, T] = {}

    def register(self, name: str, entry: T) -> T:
        """Make an object known by name; registering the same name again replaces it."""
        self._known[name] = entry
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __getitem__(self, name: str) -> T:
        """The object of a name.

        Raises
        ------
        ConfigError
            For an unknown name; says how a name becomes known.
        """
        if name not in self._known:
            raise ConfigError(
                f"{self.key} = {name!r}: no such {self.what}{suggestion(name, self._known)}; if a module of yours "
                "registers it, list the module in `plugins`, or import it first"
            )
        return self._known[name]


def load_plugins(modules: Iterable[str]) -> None:
    """Import the modules that a configuration lists, so that they register what they offer.

    Parameters
    ----------
    modules
        Names of modules that can be imported.

    Raises
    ------
    ConfigError
        When a module cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # a plugin may raise anything; all of it is a fault of the configuration
            raise ConfigError(
                f"plugins: {module!r} cannot be imported ({type(error).__name__}: {first_line(error)}); install it, or "
                "put its folder on PYTHONPATH"
            ) from error
