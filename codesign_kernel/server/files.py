"""The files that pages are made of, for people who are signed in; and what there is at any other address: nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from tornado import web

from codesign_kernel.server.handler import GateHandler, Refused
from codesign_kernel.store.digests import sha256

#: Kinds of file that are served at all.
_KINDS = re.compile(r".*\.(js|css|json|map|png|svg|ico|woff2?|ttf|eot|txt)", re.IGNORECASE)
#: A name with a hash of its content, as webpack writes it: it never changes. ``N.voila.js`` has a number, and no hash.
_HASHED = re.compile(r"(.*[./-])?(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{8,64}\.[a-z0-9]+")


class Files(GateHandler, web.StaticFileHandler):
    """A file of the first of several folders that has it. Nothing is listed, nothing climbs out."""

    json_only = True

    def initialize(self, folders: Sequence[str], *, build: bool = False) -> None:  # type: ignore[override]
        """Of Tornado: what the handler is given; ``build``: its address has the :func:`build_of` the folders."""
        self._folders, self._build = list(folders), build
        super().initialize(path=self._folders[0])

    async def prepare(self) -> None:  # type: ignore[override]
        """Refuse who is not signed in, without a way to the sign-in page: this is no page."""
        await super().prepare()
        if (wait_s := self.services.rates.take("static", self.person.subject)) is not None:
            raise Refused(429, "too_many", "too many files were asked for; wait a moment", wait_s)

    def get_absolute_path(self, root: str, path: str) -> str:  # type: ignore[override]
        """Of Tornado: the file in the first folder that has it."""
        if not _KINDS.fullmatch(path):
            raise web.HTTPError(404)
        for folder in self._folders:
            found = os.path.realpath(os.path.join(folder, path))
            if os.path.isfile(found) and os.path.commonpath((found, os.path.realpath(folder))) == os.path.realpath(
                folder
            ):
                self.root = os.path.realpath(folder)
                return found
        raise web.HTTPError(404)

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        """Of Tornado: within the folder where it was found."""
        return super().validate_absolute_path(self.root, absolute_path)

    def set_extra_headers(self, path: str) -> None:
        """Names with a hash are kept for good, others are asked for again and answered 304."""
        forever = self._build or _HASHED.fullmatch(path) or self.get_argument("v", "")
        self.set_header("Cache-Control", "private, max-age=31536000, immutable" if forever else "private, no-cache")

    def compute_etag(self) -> str | None:
        """Of Tornado, which would read each file once and then not notice that another is there."""
        about = os.stat(str(self.absolute_path))
        return f'"{about.st_mtime_ns:x}-{about.st_size:x}"'

    def get_cache_time(self, path: str, modified: Any, mime_type: str) -> int:
        """Of Tornado; :meth:`set_extra_headers` says it."""
        return 0


def build_of(folders: Sequence[str]) -> str:
    """Sixteen digits that change when a script of the folders does: those names of Voila's have no hash."""
    about = [
        (entry.name, entry.stat().st_size, entry.stat().st_mtime_ns)
        for folder in folders
        if os.path.isdir(folder)
        for entry in os.scandir(folder)
        if entry.name.endswith(".js")
    ]
    return sha256(repr(sorted(about)).encode())[:16]


class NoMathJax(GateHandler):
    """Where Voila's script looks for MathJax, which would come from elsewhere: one that does nothing.

    Apps write no TeX.
    """

    async def get(self) -> None:
        """The names that are called, in JavaScript."""
        self.set_header("Content-Type", "text/javascript")
        self.set_header("Cache-Control", "private, max-age=86400")
        self.finish(
            "window.MathJax={Hub:{Config(){},Configured(){},Queue(){},Register:{StartupHook(){}}},Ajax:{},InputJax:{}};"
        )


class Nothing(GateHandler):
    """Every address that is none."""

    async def prepare(self, **given: Any) -> None:
        """Not found, whoever asks."""
        self.current_user = self._jupyter_current_user = None
        raise web.HTTPError(404)
