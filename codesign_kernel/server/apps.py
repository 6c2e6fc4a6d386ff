"""The apps of a folder: a notebook, its scope file and its picture."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from codesign_kernel.errors import ScopeFileError
from codesign_kernel.scopes import ROLES, Scope, read_scope

#: What can be part of an address: what a file may be called to be an app.
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class App:
    """One app.

    Attributes:
        name: of its files and of its address.
        scope: what it may do, and who may open it.
        notebook: its file.
        picture: for its card; ``None`` if there is none.
    """

    name: str
    scope: Scope
    notebook: Path
    picture: Path | None = None

    @property
    def title(self) -> str:
        """For people."""
        return self.scope.title or self.name.replace("_", " ").capitalize()

    def open_to(self, role: str) -> bool:
        """Whether somebody with that role may open it."""
        return ROLES.index(role) >= ROLES.index(self.scope.open_to)


def find_apps(folder: Path) -> dict[str, App]:
    """{name: app} of the notebooks of ``folder`` that have a scope file; one without is not served.

    Raises:
        ScopeFileError: the folder is not there, a scope file is wrong, has no notebook or a name that is no address.
    """
    if not folder.is_dir():
        raise ScopeFileError(f"the apps are notebooks in a folder, but {folder} is none; name it with --apps")
    apps = {}
    for path in sorted(folder.glob("*.toml")):
        notebook, picture = path.with_suffix(".ipynb"), folder / "public" / f"{path.stem}.png"
        if not NAME.fullmatch(path.stem):
            raise ScopeFileError(
                f"an app's name is small letters, digits and _, at most 40, but got {path.name}; rename its files"
            )
        if not notebook.is_file():
            raise ScopeFileError(f"{path.name} is the scope of {notebook.name}, which is not there")
        apps[path.stem] = App(path.stem, read_scope(path), notebook, picture if picture.is_file() else None)
    return apps


def without_scope(folder: Path, apps: Iterable[str]) -> list[str]:
    """The names of notebooks in ``folder`` that are not served, because nothing says what they may do."""
    known = set(apps)
    return sorted(path.name for path in folder.glob("*.ipynb") if path.stem not in known)
