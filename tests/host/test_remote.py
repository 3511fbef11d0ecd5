"""Folders in a store and their local copies, with fsspec's file systems `file` and `memory`."""

from __future__ import annotations

import os
import pathlib
import uuid
from collections.abc import Callable

import fsspec
import pytest

from nas.host import remote

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
    """URL of a folder that does not exist yet."""
    return (
        f"file://{tmp_path}/store/run"
        if request.param == "file"
        else f"memory://{uuid.uuid4()}/run"
    )


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


def on_another_machine(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> remote.Folder:
    monkeypatch.setenv("MNV4_NAS_CACHE", str(tmp_path / "other-cache"))
    return remote.Folder(url)


def test_a_pushed_folder_is_pulled_on_another_machine(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
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
    write(
        folder.path,
        {f"coarse/checkpoints/40/{remote.LAST}": b"{}", "coarse/checkpoints/40/zzz": b"1"},
    )
    for name in RUN:
        if name.startswith(STEP):
            (folder.path / name).unlink()
    folder.push()
    # The file that completes the checkpoint comes last.
    assert copied[-1] == f"coarse/checkpoints/40/{remote.LAST}"
    assert sorted(copied) == sorted(
        ["coarse/metrics.jsonl", "coarse/checkpoints/40/zzz", copied[-1]]
    )
    assert stored(url) == read(folder.path)


def test_an_incomplete_checkpoint_is_not_pulled(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    folder = remote.Folder(url)
    write(folder.path, {**RUN, "coarse/checkpoints/40/state/d/1": b"half"})
    folder.push()
    other = on_another_machine(url, monkeypatch, tmp_path)
    other.pull()
    assert read(other.path) == RUN


def test_where_both_differ_the_store_wins(url: str) -> None:
    folder = remote.Folder(url)
    write(folder.path, RUN)
    folder.push()
    write(
        folder.path,
        {"coarse/config.yaml": b"other", f"coarse/checkpoints/60/{remote.LAST}": b"never copied"},
    )
    folder.pull()
    assert read(folder.path) == RUN
    # An empty folder would look like a checkpoint.
    assert not (folder.path / "coarse/checkpoints/60").exists()


def test_a_push_of_an_older_copy_undoes_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """The command that started a search pushes, too; its copy is older than the workers' files."""
    command = remote.Folder(url)
    write(command.path, RUN)
    command.push()
    worker = on_another_machine(url, monkeypatch, tmp_path)
    worker.pull()
    write(
        worker.path,
        {f"coarse/checkpoints/40/{remote.LAST}": b"{}", "coarse/metrics.jsonl": b"longer"},
    )
    (worker.path / STEP / remote.LAST).unlink()
    worker.push()
    there = stored(url)
    command.push()
    assert stored(url) == there == read(worker.path)


def test_a_path_is_used_directly(tmp_path: pathlib.Path) -> None:
    folder = remote.Folder(tmp_path / "run")
    folder.pull()
    folder.push()
    assert folder.path == tmp_path / "run" and not folder.path.exists() and folder.url is None
    assert (
        str(folder / "a")
        == str(tmp_path / "run" / "a")
        == folder.display_name(tmp_path / "run" / "a")
    )


def test_display_names_start_with_the_url(url: str, own_cache: pathlib.Path) -> None:
    folder = remote.Folder(url + "/") / "seed0"
    assert own_cache in folder.path.parents
    assert (
        str(folder) == f"{url}/seed0"
        and folder.display_name(folder.path / "a" / "b") == f"{url}/seed0/a/b"
    )
    assert folder.absolute() is folder


@pytest.mark.parametrize("name", ["../out", "a/../../out", "a\\..\\out"])
def test_a_name_that_leads_outside_is_refused(name: str, own_cache: pathlib.Path) -> None:
    url = f"memory://{uuid.uuid4()}/run"
    files, root = fsspec.url_to_fs(url)
    # Object stores allow such names.
    type(files).store[f"{root}/{name}"] = files.open(f"{root}/x", "wb")
    with pytest.raises(ValueError, match="leads outside"):
        remote.Folder(url).pull()
    assert read(own_cache.parent) == {}


class TestDownloadCached:
    def test_a_folder_and_a_file(self, url: str) -> None:
        write(remote.Folder(url).path, RUN)
        remote.Folder(url).push()
        assert read(remote.download_cached(url)) == RUN
        assert remote.download_cached(f"{url}/coarse/config.yaml").read_bytes() == b"a: 1"
        assert remote.download_cached(f"{url}/coarse/config.yaml").name == "config.yaml"

    def test_one_download_for_each_version(self, url: str) -> None:
        folder = remote.Folder(url)
        write(folder.path, RUN)
        folder.push()
        first = remote.download_cached(url)
        (first / "mark").touch()
        assert remote.download_cached(url) == first and (first / "mark").exists()
        write(folder.path, {"coarse/config.yaml": b"b: 2"})
        folder.push()
        assert read(remote.download_cached(url)) == {**RUN, "coarse/config.yaml": b"b: 2"}

    def test_nothing_at_the_url(self, url: str) -> None:
        with pytest.raises(ValueError, match=f"^{url}: nothing is there$"):
            remote.download_cached(url)


@pytest.mark.parametrize(
    "call",
    [remote.download_cached, lambda url: remote.Folder(url).pull()],
    ids=["download_cached", "pull"],
)
def test_an_unknown_store(call: Callable[[str], object]) -> None:
    with pytest.raises(
        ValueError,
        match="^s4://bucket/run: no store is called s4://; expected e.g. s3:// or gs://$",
    ):
        call("s4://bucket/run")


def test_a_store_whose_library_is_not_installed() -> None:
    known = fsspec.get_filesystem_class
    with pytest.MonkeyPatch.context() as patch:

        def missing(scheme: str) -> type:
            if scheme == "s3":
                raise ImportError("Install s3fs to access S3")
            return known(scheme)

        patch.setattr("fsspec.core.get_filesystem_class", missing)
        with pytest.raises(
            ValueError, match=r's3://bucket/run: Install s3fs to access S3; .*"mnv4-nas\[store\]"'
        ):
            remote.download_cached("s3://bucket/run")


def test_a_store_that_cannot_be_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "store").write_text("a file where a folder should be")
    folder = remote.Folder(f"file://{tmp_path}/store/run")
    write(folder.path, RUN)
    with pytest.raises(
        ValueError, match=f"store/run: cannot be written; the changes are kept in {folder.path}"
    ):
        folder.push()
    messages: list[str] = []
    folder.saver(messages.append)()
    assert len(messages) == 1 and messages[0].endswith("retrying after the next checkpoint")
    with pytest.raises(
        ValueError,
        match=f"store/run: {folder.path} has changes that could not be copied there",
    ):
        remote.Folder(folder.url or "").pull()  # would lose them
    assert read(folder.path) == RUN
    os.unlink(tmp_path / "store")
    folder.saver(messages.append)()
    assert len(messages) == 1 and stored(folder.url or "") == RUN
    remote.Folder(folder.url or "").pull()
