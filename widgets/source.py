"""ModelSource: choose a network of a catalogue or bring one's own, and give it to the pages that show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from codesign_kernel.errors import CodesignError, InvalidInputError
from codesign_widgets.page import Page, script_of, sentence, style_of

#: An upload comes in pieces of so many bytes, which a server's limit on messages lets pass.
PIECE = 256 << 10
#: Formats in which what is shown can be saved.
FORMATS = ("csv", "json")
_LONGEST = 200


class ModelSource(Page):
    """A page on which a network is chosen from a catalogue, or a file of one's own is uploaded.

    What is chosen is profiled by ``load`` or ``read`` and handed to the pages that are :meth:`showing` it. What the
    page sends is checked here: an upload that is larger than ``most_bytes`` is dropped while it comes, and what is
    wrong with one stands beside its control.

    Args:
        catalogue: {name: (title, what it does)}; the first is shown at once.
        load: ``load(name)`` gives the profile of one of them.
        read: ``read(file name, content)`` gives that of an upload; none can be uploaded without.
        most_bytes: that an upload may have; 0: none can be uploaded.
        save: ``save(profile, "csv" or "json")`` gives (file name, content); nothing can be saved without.

    Attributes:
        profile, label: what was chosen last.

    Raises:
        InvalidInputError: the catalogue is empty.
    """

    _esm = script_of("source.js")
    _css = style_of("source.css", "ckx-source")
    _content: bytearray

    def __init__(
        self,
        catalogue: Mapping[str, tuple[str, str]],
        load: Callable[[str], Any],
        read: Callable[[str, bytes], Any] | None = None,
        most_bytes: int = 0,
        save: Callable[[Any, str], tuple[str, bytes]] | None = None,
    ) -> None:
        if not catalogue:
            raise InvalidInputError("a catalogue has at least one network, but this has none")
        super().__init__()
        self._catalogue, self._load, self._read, self._save = dict(catalogue), load, read, save
        self._into: list[Callable[[str, Any], None]] = []
        self._most = most_bytes if read is not None else 0
        self._content, self._overflow = bytearray(), False
        self.profile, self.label, self._shown = None, "", ""
        self.setup = {
            "catalogue": [[name, title, about] for name, (title, about) in catalogue.items()],
            "most": self._most,
            "most_words": _size(self._most),
            "piece": PIECE,
            "formats": list(FORMATS) if save else [],
        }
        self.on_msg(self._received)
        self.tell(0, {"network": next(iter(self._catalogue))})

    def showing(self, page: Any) -> Any:
        """``page``, whose ``add(label, profile)`` is called with each network that is chosen from now on."""
        self._into.append(page.add)
        return page

    def respond(self, asked: dict[str, Any]) -> dict[str, Any]:
        if "upload" in asked:
            profile, name = self._uploaded(asked), ""
            label = profile.name
        else:
            name = asked.get("network")
            if not isinstance(name, str) or name not in self._catalogue:
                raise InvalidInputError(
                    f"the networks here are {', '.join(self._catalogue)}, but got {str(name)[:40]!r}"
                )
            label = self._catalogue[name][0]
            if name == self._shown:  # a page asks again behind a quick hand; what was chosen to go with it stays
                return {"network": name, "label": label}
            profile = self._load(name)
        for each in self._into:
            each(label, profile)
        self.profile, self.label, self._shown = profile, label, name
        return {"network": name, "label": label}

    def blame(self, message: str, asked: dict[str, Any]) -> str:
        """The control that was used."""
        return "upload" if "upload" in asked else "network"

    def _uploaded(self, asked: dict[str, Any]) -> Any:
        content, overflow = bytes(self._content), self._overflow
        self._content, self._overflow = bytearray(), False
        name = asked["upload"]
        if not self._most or self._read is None:
            raise InvalidInputError("no file can be uploaded here; choose a network of the list")
        if not isinstance(name, str) or len(name) > _LONGEST:
            raise InvalidInputError(f"a file has a name of at most {_LONGEST} characters, but this has none such")
        if overflow:
            raise InvalidInputError(
                f"a file has at most {_size(self._most)}, but this has more; leave its weights out, or choose "
                "a network of the list"
            )
        if asked.get("size") != len(content):
            raise InvalidInputError("the file did not arrive whole; upload it again")
        return self._read(name, content)

    def _received(self, _: Any, content: Any, buffers: Sequence[Any]) -> None:
        """A piece of an upload, or a wish to save; a page may send anything."""
        if not isinstance(content, dict):
            return
        if content.get("kind") == "piece":
            if content.get("first") is True:
                self._content, self._overflow = bytearray(), False
            for piece in buffers:
                if self._overflow or len(self._content) + len(piece) > self._most:
                    self._content, self._overflow = bytearray(), True
                else:
                    self._content += piece
        elif content.get("kind") == "save" and content.get("format") in FORMATS and self._save and self.profile:
            self._saved(str(content["format"]))

    def _saved(self, kind: str) -> None:
        assert self._save is not None
        try:
            name, content = self._save(self.profile, kind)
        except CodesignError as error:
            self.send({"kind": "unsaved", "text": sentence(error)})
        else:
            self.send({"kind": "file", "name": name}, buffers=[content])

    def close(self) -> None:
        """Let go of what it would call."""
        self.on_msg(self._received, remove=True)
        self._into = []
        super().close()


def _size(count: int) -> str:
    return f"{count / (1 << 20):.3g} MiB"
