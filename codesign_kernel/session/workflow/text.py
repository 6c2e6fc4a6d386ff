"""The text of a workflow: YAML, by a loader that makes plain data only."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign_kernel.errors import InvalidInputError, MissingPackageError

if TYPE_CHECKING:
    import yaml

#: A workflow is a page; what is larger is something else.
LIMIT_BYTES = 1 << 20


def read_text(path: Path) -> Any:
    """What the file says, as plain data, unchecked.

    Raises:
        InvalidInputError: it cannot be read or is no YAML, says a thing twice, or is made of aliases.
        MissingPackageError: PyYAML is not installed.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= LIMIT_BYTES else b""
    except OSError as error:
        raise InvalidInputError(
            f"a workflow is a file that can be read, but {path}: {error.strerror or error}; check the name"
        ) from error
    if size > LIMIT_BYTES:
        raise InvalidInputError(f"a workflow is a file of at most {LIMIT_BYTES:,} bytes, but {path} has {size:,}")
    try:
        import yaml
    except ImportError as error:
        raise MissingPackageError(
            "a workflow's file is read by PyYAML, which is not installed; pip install 'codesign-playground[store]'"
        ) from error
    try:
        return yaml.load(content.decode("utf-8"), Loader=_loader())  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInputError(
            f"{path}: a workflow is plain YAML in UTF-8, but {told:.300}; mend that line"
        ) from error


@lru_cache(maxsize=1)
def _loader() -> type[yaml.SafeLoader]:
    """PyYAML's safe loader, which takes a key that stands there twice, and aliases, without a word; this one refuses
    both: the first is a slip of the pen, and the second can make a small file larger than any memory."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()
                raise yaml.MarkedYAMLError(None, None, "an alias stands there; write it out", event.start_mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            names = [key for key, _ in node.value if isinstance(key.value, str)]
            for place, key in enumerate(names):
                if key.value in [other.value for other in names[:place]]:
                    raise yaml.MarkedYAMLError(None, None, f"{key.value!r} stands there twice", key.start_mark)
            return super().construct_mapping(node, deep)

    return Loader
