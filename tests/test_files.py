"""Results on disk: checked before the work, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codesign_kernel import files
from codesign_kernel.errors import OutputError
from codesign_kernel.files import check_file, check_folder, write_folder, write_whole


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.csv"
    check_file(path)
    assert not path.parent.exists(), "checking leaves nothing behind"
    write_whole(path, "a\n")
    write_whole(path, "b\n")
    assert path.read_text() == "b\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.csv"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.csv"
    path.write_text("old")

    def full(*names: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OutputError, match=r"file\.csv cannot be written: No space left on device"):
        write_whole(path, "new")
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"file.csv": "old"}


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.csv"

    def interrupt(*names: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "TemporaryDirectory", read_only)
    with pytest.raises(OutputError, match="Permission denied; choose another"):
        check_folder(tmp_path / "a" / "b")


def everything(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    assert write_folder(folder, {"a.txt": "1", "rtl/b.v": "2"}) == [folder / "a.txt", folder / "rtl" / "b.v"]
    (folder / "mine.txt").write_text("mine")
    write_folder(folder, {"a.txt": "3"})
    assert everything(tmp_path / "deep") == {"out/a.txt": "3", "out/rtl/b.v": "2", "out/mine.txt": "mine"}


def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    write_folder(folder, {"a.txt": "old", "b.txt": "old"})
    real = files.write_whole

    def interrupted(path: Path, text: str) -> None:
        if path.name == "b.txt":
            raise KeyboardInterrupt
        real(path, text)

    monkeypatch.setattr(files, "write_whole", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, {"a.txt": "new", "b.txt": "new"})
    assert everything(tmp_path) == {"out/a.txt": "old", "out/b.txt": "old"}


@pytest.mark.parametrize("write", [lambda path: write_folder(path, {"a": ""}), check_folder])
def test_a_file_is_no_folder(write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="file is not one"):
        write(tmp_path / "file" / "below")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; add a file name"):
        check_file(tmp_path)
