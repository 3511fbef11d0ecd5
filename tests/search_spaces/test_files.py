from __future__ import annotations

import pathlib
import pickle

import pytest

from search_spaces import files


class TestWriteAtomically:
    def test_replaces_and_makes_folders(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "a" / "b.txt"
        for text in ("old", "n\u00e9w"):
            files.write_atomically(path, text)
            assert path.read_text(encoding="utf-8") == text
        assert path.stat().st_mode & 0o777 == 0o644

    def test_a_failure_leaves_the_old_file_and_nothing_else(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "b.txt"
        path.write_text("old")

        def fail(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr("search_spaces.files.os.replace", fail)
        with pytest.raises(OSError, match="disk full"):
            files.write_atomically(path, "new")
        assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("b.txt", "old")]

    def test_a_folder_that_cannot_be_written_is_named_with_the_cure(
        self, tmp_path: pathlib.Path
    ) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match="choose another place") as caught:
            files.write_atomically(tmp_path / "file" / "b.txt", "new")
        assert str(tmp_path / "file" / "b.txt") in str(caught.value)
        again = pickle.loads(pickle.dumps(caught.value))  # as it comes from another process
        assert str(again) == str(caught.value)
