"""Folders in a store and their copies here, with file systems of fsspec: files behind a URL, and memory."""

from __future__ import annotations

import os
import pathlib
import uuid
from collections.abc import Callable

import fsspec
import pytest

from nas.run import remote

STEP = "coarse/checkpoints/20"
RUN = {
    "coarse/config.yaml": b"a: 1",
    "coarse/metrics.jsonl": b'{"step": 0}\n',
    f"{STEP}/state/d/1": b"\x00arrays",
    f"{STEP}/{remote.LAST}": b"{}",
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("MNV4_NAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    """Of a place where nothing is yet."""
    return f"file://{tmp_path}/store/run" if request.param == "file" else f"memory://{uuid.uuid4()}/run"


def write(folder: pathlib.Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def read(folder: pathlib.Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def stored(url: str) -> dict[str, bytes]:
    files, root = fsspec.url_to_fs(url)
    return {path.removeprefix(root).lstrip("/"): files.cat_file(path) for path in files.find(root)}


def on_another_machine(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> remote.Folder:
    monkeypatch.setenv("MNV4_NAS_CACHE", str(tmp_path / "other-cache"))
    return remote.Folder(url)


def test_what_was_pushed_is_pulled_elsewhere(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    first = remote.Folder(url)
    first.pull()
    write(first.path, RUN)
    first.push()
    assert stored(url) == RUN
    other = on_another_machine(url, monkeypatch, tmp_path)
    other.pull()
    assert other.path != first.path and read(other.path) == RUN


def test_only_changes_are_copied(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = remote.Folder(url)
    write(folder.path, RUN)
    folder.push()
    files, _ = fsspec.url_to_fs(url)
    copied: list[str] = []
    put = type(files).put

    def counting(self: object, here: list[str], there: list[str]) -> None:
        copied.extend(name.rpartition("/run/")[2] for name in there)
        put(files, here, there)

    monkeypatch.setattr(type(files), "put", counting)
    folder.push()
    assert copied == []
    with (folder.path / "coarse/metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 1}\n')
    write(folder.path, {f"coarse/checkpoints/40/{remote.LAST}": b"{}", "coarse/checkpoints/40/zzz": b"1"})
    for name in RUN:
        if name.startswith(STEP):
            (folder.path / name).unlink()
    folder.push()
    assert copied[-1] == f"coarse/checkpoints/40/{remote.LAST}"  # only then the checkpoint counts
    assert sorted(copied) == sorted(["coarse/metrics.jsonl", "coarse/checkpoints/40/zzz", copied[-1]])
    assert stored(url) == read(folder.path)


def test_a_checkpoint_that_is_not_whole_is_not_pulled(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    folder = remote.Folder(url)
    write(folder.path, {**RUN, "coarse/checkpoints/40/state/d/1": b"half"})
    folder.push()
    other = on_another_machine(url, monkeypatch, tmp_path)
    other.pull()
    assert read(other.path) == RUN


def test_the_store_is_right_where_both_differ(url: str) -> None:
    folder = remote.Folder(url)
    write(folder.path, RUN)
    folder.push()
    write(folder.path, {"coarse/config.yaml": b"other", f"coarse/checkpoints/60/{remote.LAST}": b"never copied"})
    folder.pull()
    assert read(folder.path) == RUN
    assert not (folder.path / "coarse/checkpoints/60").exists()  # an empty folder would be taken for a checkpoint


def test_who_has_seen_an_older_state_undoes_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """The command that started a search pushes too, while its copy is from before the workers began."""
    command = remote.Folder(url)
    write(command.path, RUN)
    command.push()
    worker = on_another_machine(url, monkeypatch, tmp_path)
    worker.pull()
    write(worker.path, {f"coarse/checkpoints/40/{remote.LAST}": b"{}", "coarse/metrics.jsonl": b"longer"})
    (worker.path / STEP / remote.LAST).unlink()
    worker.push()
    there = stored(url)
    command.push()
    assert stored(url) == there == read(worker.path)


def test_a_path_is_used_as_it_is(tmp_path: pathlib.Path) -> None:
    folder = remote.Folder(tmp_path / "run")
    folder.pull()
    folder.push()
    assert folder.path == tmp_path / "run" and not folder.path.exists() and folder.url is None
    assert str(folder / "a") == str(tmp_path / "run" / "a") == folder.named(tmp_path / "run" / "a")


def test_files_are_named_by_the_url(url: str, own_cache: pathlib.Path) -> None:
    folder = remote.Folder(url + "/") / "seed0"
    assert own_cache in folder.path.parents
    assert str(folder) == f"{url}/seed0" and folder.named(folder.path / "a" / "b") == f"{url}/seed0/a/b"
    assert folder.absolute() is folder


@pytest.mark.parametrize("name", ["../out", "a/../../out", "a\\..\\out"])
def test_a_name_that_leads_out_is_refused(name: str, own_cache: pathlib.Path) -> None:
    url = f"memory://{uuid.uuid4()}/run"
    files, root = fsspec.url_to_fs(url)
    type(files).store[f"{root}/{name}"] = files.open(f"{root}/x", "wb")  # as an object store would have it
    with pytest.raises(ValueError, match="no path inside"):
        remote.Folder(url).pull()
    assert read(own_cache.parent) == {}


class TestFetched:
    def test_a_folder_and_a_file(self, url: str) -> None:
        write(remote.Folder(url).path, RUN)
        remote.Folder(url).push()
        assert read(remote.fetched(url)) == RUN
        assert remote.fetched(f"{url}/coarse/config.yaml").read_bytes() == b"a: 1"
        assert remote.fetched(f"{url}/coarse/config.yaml").name == "config.yaml"

    def test_once_and_again_when_it_has_changed(self, url: str) -> None:
        folder = remote.Folder(url)
        write(folder.path, RUN)
        folder.push()
        first = remote.fetched(url)
        (first / "mark").touch()
        assert remote.fetched(url) == first and (first / "mark").exists()
        write(folder.path, {"coarse/config.yaml": b"b: 2"})
        folder.push()
        assert read(remote.fetched(url)) == {**RUN, "coarse/config.yaml": b"b: 2"}

    def test_nothing_there(self, url: str) -> None:
        with pytest.raises(ValueError, match=f"^{url}: nothing is there$"):
            remote.fetched(url)


@pytest.mark.parametrize("call", [remote.fetched, lambda url: remote.Folder(url).pull()], ids=["fetched", "pull"])
def test_a_store_that_is_not_known(call: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="^s4://bucket/run: no store is called s4://; expected e.g. s3:// or gs://$"):
        call("s4://bucket/run")


def test_a_store_whose_library_is_missing() -> None:
    known = fsspec.get_filesystem_class
    with pytest.MonkeyPatch.context() as patch:

        def missing(scheme: str) -> type:
            if scheme == "s3":
                raise ImportError("Install s3fs to access S3")
            return known(scheme)

        patch.setattr("fsspec.core.get_filesystem_class", missing)
        with pytest.raises(ValueError, match=r's3://bucket/run: Install s3fs to access S3; .*"mnv4-nas\[store\]"'):
            remote.fetched("s3://bucket/run")


def test_a_store_that_cannot_be_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "store").write_text("a file where a folder should be")
    folder = remote.Folder(f"file://{tmp_path}/store/run")
    write(folder.path, RUN)
    with pytest.raises(ValueError, match=f"store/run: cannot be written; what was not copied lies in {folder.path}"):
        folder.push()
    said: list[str] = []
    folder.saver(said.append)()
    assert len(said) == 1 and said[0].endswith("it is tried again after the next checkpoint")
    with pytest.raises(ValueError, match=f"store/run: {folder.path} has what could not be copied there; to go on from"):
        remote.Folder(folder.url or "").pull()  # it would be lost
    assert read(folder.path) == RUN
    os.unlink(tmp_path / "store")
    folder.saver(said.append)()
    assert len(said) == 1 and stored(folder.url or "") == RUN
    remote.Folder(folder.url or "").pull()
