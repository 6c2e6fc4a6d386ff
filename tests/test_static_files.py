"""The files that pages are made of: kept by browsers while they are the same, and nothing beside them is served."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("voila")

from door import Browser, Door

from codesign_kernel.server.files import Files, build_of

FOREVER, ASK = "private, max-age=31536000, immutable", "private, no-cache"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is served, a secret beside it, and a link to that."""
    root = tmp_path_factory.mktemp("files")
    served = root / "served"
    (served / "sub").mkdir(parents=True)
    (root / "served2").mkdir()
    for name in ("12.voila.js", "2.3dbf81c0.js", "a009bea404f7a500ded4.woff", "voila.js", "sub/x.css", "x.js.gz"):
        (served / name).write_bytes(b"0123456789" * 10)
    for secret in (root / "secret.txt", root / "served2" / "secret.txt", served / ".hidden", served / "page.html"):
        secret.write_text("secret")
    (served / "link.txt").symlink_to(root / "secret.txt")
    (served / "out").symlink_to(root)
    os.mkfifo(served / "pipe.txt")
    return served


@pytest.fixture(scope="module")
def visitor(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Somebody who is signed in, at a server of these files."""
    door = Door(tmp_path_factory.mktemp("door"), identity="password")
    try:
        routes: list[Any] = [
            (r"/static/build/(.+)", Files, {"folders": [str(folder)], "build": True}),
            (r"/static/(.+)", Files, {"folders": [str(folder / "none"), str(folder)]}),
        ]  # fmt: skip
        door.server.request_callback.add_handlers(".*", routes)  # type: ignore[attr-defined]
        door.add()
        with door.browser() as browser:
            assert browser.sign_in().status_code == 303
            yield browser
    finally:
        door.close()


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("12.voila.js", ASK), ("build/12.voila.js", FOREVER), ("2.3dbf81c0.js", FOREVER), ("voila.js", ASK),
        ("a009bea404f7a500ded4.woff", FOREVER), ("sub/x.css", ASK), ("sub/x.css?v=1", FOREVER),
    ],
)  # fmt: skip
def test_only_a_name_with_a_hash_is_kept_for_good(visitor: Browser, path: str, kept: str) -> None:
    answer = visitor.get(f"static/{path}")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, kept)
    assert "Content-Encoding" not in answer.headers
    again = visitor.get(f"static/{path}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content, again.headers["Cache-Control"]) == (304, b"", kept)
    head = visitor.head(f"static/{path}")
    assert (head.content, head.headers["ETag"]) == (b"", answer.headers["ETag"])
    assert head.headers["Content-Length"] == "100"
    part = visitor.get(f"static/{path}", headers={"Range": "bytes=5-7"})
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"567", "bytes 5-7/100")
    assert visitor.get(f"static/{path}", headers={"Range": "bytes=200-"}).status_code == 416


def test_another_file_of_that_name_has_another_tag(visitor: Browser, folder: Path) -> None:
    old, built = visitor.get("static/sub/x.css"), build_of([str(folder)])
    (folder / "sub" / "x.css").write_bytes(b"new")
    (folder / "12.voila.js").write_bytes(b"new")
    answer = visitor.get("static/sub/x.css", headers={"If-None-Match": old.headers["ETag"]})
    assert (answer.status_code, answer.content) == (200, b"new")
    assert build_of([str(folder)]) != built


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt", "sub/../../secret.txt", "link.txt", "out/secret.txt",
        "../served2/secret.txt", "x.txt%00", "%00.txt", "VOILA.JS", ".hidden", "page.html", "x.js.gz", "pipe.txt",
        "sub", "{outside}", "%2f{outside}", "file:{outside}", "sub/x.css/", "sub/x.css/x.txt", "x" * 300 + ".js",
    ],
)  # fmt: skip
def test_nothing_else_is_there(visitor: Browser, folder: Path, path: str) -> None:
    path = path.format(outside=folder.parent / "secret.txt")
    for method in ("GET", "HEAD"):
        answer = visitor.request(method, f"{visitor.door.url}static/{path}")
        assert (answer.status_code, "secret" in answer.text) == (404, False)


def test_they_are_for_people_who_are_signed_in(visitor: Browser) -> None:
    with visitor.door.browser("192.0.2.9") as nobody:
        assert nobody.get("static/voila.js").status_code == 401
