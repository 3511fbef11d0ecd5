"""Runs and data sets behind a URL: of files, and (slow) of an S3 server on 127.0.0.1.

The server needs s3fs and moto.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import fsspec
import pytest

from nas.cli import distil, report, search
from nas.data import load
from nas.host.remote import LAST, Folder


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a bucket, of a server that keeps it in memory; the environment says where it is."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server", exc_type=ImportError)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stderr=-3
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
            ("AWS_ACCESS_KEY_ID", "of-nobody"),
            ("AWS_SECRET_ACCESS_KEY", "of-nobody"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        files = fsspec.filesystem("s3")
        end = time.monotonic() + 60
        while True:
            try:
                files.mkdir("bucket")
                break
            except Exception:  # it starts
                assert server.poll() is None and time.monotonic() < end
                time.sleep(0.2)
        yield "s3://bucket"
    server.terminate()
    server.wait()


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> str:
    """URL of a folder that nothing is in."""
    return (
        f"file://{tmp_path}/store"
        if request.param == "file"
        else f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    )


# Folders are copied to where the commands copy them.
pytestmark = pytest.mark.usefixtures("in_this_process")


def names(url: str) -> set[str]:
    files, root = fsspec.url_to_fs(url)
    files.invalidate_cache()
    return {path.removeprefix(root).lstrip("/") for path in files.find(root)}


def stored(url: str) -> dict[str, bytes]:
    files, root = fsspec.url_to_fs(url)
    return {name: files.cat_file(f"{root}/{name}") for name in names(url)}


def without_seconds(architecture: bytes) -> bytes:
    return re.sub(rb"seconds: [\d.]+", b"", architecture)


def test_a_search_is_resumed_on_another_machine(
    store: str,
    tiny_recipe: pathlib.Path,
    search_environment: dict[str, str],
    finished_run: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Killed, and its machine is lost: the same command elsewhere ends as an undisturbed one."""
    # A store's library may warn.
    environment = {**os.environ, **search_environment, "PYTHONWARNINGS": "default"}
    options = ["--stage", "coarse", "--config", str(tiny_recipe), "--workdir", store]
    command = [sys.executable, "-m", "nas.cli.search", *options]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 300
    while f"coarse/checkpoints/20/{LAST}" not in names(store):
        time.sleep(0.05)
        assert process.poll() is None and time.monotonic() < end, process.communicate()
    process.kill()
    process.communicate()
    assert "coarse/architecture.yaml" not in names(store)
    shutil.rmtree(Folder(store).path)

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    there, whole = stored(store), finished_run / "coarse"
    for name in ("config.yaml", "metrics.jsonl", "policy.jsonl", "candidates.csv"):
        assert there[f"coarse/{name}"] == (whole / name).read_bytes(), name
    found = there["coarse/architecture.yaml"]
    assert without_seconds(found) == without_seconds((whole / "architecture.yaml").read_bytes())
    steps = {name.split("/")[2] for name in there if name.startswith("coarse/checkpoints/")}
    assert steps == {"50", "60"} and "coarse/report.html" in there
    assert f"found tiny-coarse: {store}/coarse/architecture.yaml" in done.stdout
    assert f"report: {store}/coarse/report.html" in done.stdout

    search.main(options)
    assert f"{store}/coarse/architecture.yaml: found already" in capsys.readouterr().err
    assert stored(store) == there


def test_a_data_set_is_made_and_read_there(
    store: str, tiny_recipe: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    arrays = tiny_recipe.parent / "tiny.npz"
    files, root = fsspec.url_to_fs(store)
    if not files.async_impl:
        files.makedirs(root)
    files.put_file(str(arrays), f"{root}/tiny.npz")
    there, here = (load.load_dataset(f"npz:{file}") for file in (f"{store}/tiny.npz", arrays))
    assert there.fingerprint == here.fingerprint
    command = ["--recipe", "plain", "--workers", "1", "--source"]
    distil.main([*command, f"npz:{store}/tiny.npz", "--out", f"{store}/made"])
    distil.main(["verify", f"{store}/made"])
    made = stored(f"{store}/made")
    dataset = load.load_dataset(f"distilled:{store}/made")
    assert len(dataset.train) == 48 and dataset.train.shape == (8, 8, 3)
    # All is there: nothing is made again.
    distil.main([*command, f"npz:{store}/tiny.npz", "--out", f"{store}/made"])
    assert stored(f"{store}/made") == made


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--out", "s3://a/b", "--ray", "auto", "--source", "npz:x.npz"],
        ["verify", "s4://bucket/x"],
    ):
        with pytest.raises(SystemExit) as stopped:
            distil.main(arguments)
        assert stopped.value.code == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    needed = "--out s3://a/b: with --ray auto nas-distill needs a folder that every machine"
    assert needed in err[0]
    assert "no store is called s4://" in err[1]


@pytest.mark.slow
def test_many_searches_and_their_reports(
    tiny_recipe: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, file = f"file://{tmp_path}/store", tmp_path / "tries.yaml"
    settings = "seeds: [0, 1]\nvariants: {short: {search.steps.coarse: 6}}"
    file.write_text(
        f"schema: 1\nname: tries\nconfig: {tiny_recipe}\nstages: [coarse]\n{settings}\n"
    )
    search.main(["matrix", str(file), "--workdir", store, "--workers", "1"])
    there, out = stored(store), capsys.readouterr().out
    assert {f"short-seed{n}/coarse/architecture.yaml" for n in (0, 1)} | {"report.html"} <= set(
        there
    )
    assert f"\n{store}/short-seed0/coarse " in out and f"report: {store}/report.html" in out
    report.main([f"{store}/short-seed0"])
    assert f"written: {store}/short-seed0/coarse/report.html" in capsys.readouterr().out
    assert "short-seed0/coarse/report.html" in names(store)
    report.main(["compare", f"{store}/short-seed0", f"{store}/short-seed1"])
    assert f"\n{store}/short-seed1/coarse " in capsys.readouterr().out
    folders = ["--workdir", f"{store}/short-seed0", "--out", f"{store}/derived"]
    search.main(["derive", *folders, "--by", "random"])
    assert {name for name in names(store) if name.startswith("derived/")} == {
        "derived/architecture.yaml",
        "derived/candidates.csv",
    }
