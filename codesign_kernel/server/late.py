"""What libraries of the gateway build when they are loaded, and it does not use: built when somebody asks for it."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class Late(ModuleType):
    """Stands for a module that is loaded when one of its functions is called first.

    Args:
        name: of the module.
        functions: that others import from it by name.
    """

    def __init__(self, name: str, *functions: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = list(getattr(find_spec(name), "submodule_search_locations", None) or ())
        for function in functions:
            setattr(self, function, self._late(function))

    def _late(self, function: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            return getattr(self._loaded(), function)(*arguments, **options)

        return call

    def _loaded(self) -> ModuleType:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return import_module(self.__name__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by the import system and by inspect of every module
            raise AttributeError(name)
        return getattr(self._loaded(), name)


def load_late() -> None:
    """Put off the checks of internationalised addresses that ``jsonschema`` builds with a parser of its own, for a
    third of all that starting a gateway takes (1.3 s of a core). No schema of this package or of Jupyter asks for one.
    """
    name = "rfc3987_syntax"
    if name not in sys.modules and find_spec(name) is not None:
        sys.modules[name] = Late(name, "is_valid_syntax")
