"""Training from Python: a found network, files, resuming, starting points, and mistakes."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import nas
import search_spaces
from nas.run.train_config import TrainConfig
from search_spaces import with_classes

SHORT: dict[str, Any] = {"epochs": 3, "batch": 16, "checkpoint_every": 4, "evaluate_every": 3}

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture(scope="module")
def result(
    finished_run: pathlib.Path,
    search_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> nas.TrainResult:
    """The network of the finished search, trained for nine steps."""
    from nas.host import backend

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "prepare", lambda replicas: None)
        folder = tmp_path_factory.mktemp("training") / "t"
        return nas.train(finished_run, workdir=folder, settings=SHORT)


def test_the_result(result: nas.TrainResult, finished_run: pathlib.Path) -> None:
    found = search_spaces.load(finished_run / "fine" / "architecture.yaml")
    assert result.architecture == found and result.record.data.startswith("npz:")
    assert result.measures.steps == 9 and result.measures.test_images == 8
    assert result.summary["step"].tolist() == [3, 6, 9]
    assert {"accuracy", "average_accuracy", "top5", "nll", "ece"} <= set(result.summary)
    assert len(result.metrics["loss"]) == 9 and result.confusion.sum() == 8
    best = max(*result.summary["accuracy"], *result.summary["average_accuracy"])
    assert result.measures.validation["accuracy"] == best
    for name in ("best", "last"):
        assert (result.path / name / "weights.npz").exists()
    assert "test accuracy" in repr(result) and "<table>" in result._repr_html_()


def test_the_report_shows_images_and_mistakes(result: nas.TrainResult) -> None:
    page = result.report().read_text()
    assert page.count("<figure") == 8 and "Confusion matrix" in page and "<script" not in page
    assert "training loss" in page and "label_smoothing" in page


def test_a_finished_one_is_not_repeated(
    result: nas.TrainResult, finished_run: pathlib.Path
) -> None:
    before = (result.path / "result.yaml").stat().st_mtime_ns
    again = nas.train(str(finished_run), workdir=result.path, settings=SHORT)
    assert again.measures == result.measures
    assert (result.path / "result.yaml").stat().st_mtime_ns == before


def test_from_the_supernet_and_from_another_training(
    result: nas.TrainResult, finished_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    from nas.api.training import open_job

    inside = open_job(finished_run, workdir=tmp_path / "a", init="supernet", settings=SHORT)
    assert inside.fitted and not inside.fitted.part
    assert inside.record.init.startswith("supernet of fine")
    after = open_job(finished_run, workdir=tmp_path / "b", init=result, settings=SHORT)
    assert after.fitted and not after.fitted.part and not after.fitted.fresh
    kernel = np.asarray(result.network.params["blocks"][0]["conv"]["kernel"])
    np.testing.assert_array_equal(after.fitted.params["blocks"][0]["conv"]["kernel"], kernel)


def test_from_a_state_dict_of_timm(
    result: nas.TrainResult, finished_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """With as many classes as here all is taken, with others all but the classifier's rows."""
    from nas.api.training import open_job
    from nas.exporters import safetensors, timm

    network, path = result.network, tmp_path / "w.safetensors"
    state = timm.to_state_dict(network.spec, network.params, network.stats)
    safetensors.write(path, state, {})
    job = open_job(finished_run, workdir=tmp_path, init=f"timm:{path}", settings=SHORT)
    assert job.fitted and not job.fitted.part and not job.fitted.fresh
    assert job.record.init.startswith("timm:w.safetensors ")
    assert "padding same and norm_epsilon 0.001; timm's published" in str(job.fitted)
    given = {"init": f"timm:{path}", "settings": SHORT, "padding": "symmetric"}
    job = open_job(finished_run, workdir=tmp_path, **given)
    assert job.spec.padding == "symmetric" and "padding symmetric" in str(job.fitted)
    unknown: Any = "valid"
    with pytest.raises(ValueError, match="`padding`: got 'valid', expected one of same, symm"):
        open_job(finished_run, workdir=tmp_path, padding=unknown, settings=SHORT)
    more = {name: np.repeat(state[name], 2, 0) for name in state if name.startswith("classifier")}
    safetensors.write(path, {**state, **more}, {})
    job = open_job(finished_run, workdir=tmp_path, init=f"timm:{path}", settings=SHORT)
    assert job.fitted and len(job.fitted.part) == 2
    safetensors.write(path, {name: state[name] for name in list(state)[1:]}, {})
    with pytest.raises(ValueError, match="`init` timm:.*conv_stem.weight .* is missing.*; give"):
        open_job(finished_run, workdir=tmp_path, init=f"timm:{path}", settings=SHORT)
    safetensors.write(path, {**state, "more.weight": np.zeros(3)}, {})
    with pytest.raises(ValueError, match=r"1 misfits: more.weight \(3,\) is surplus; give"):
        open_job(finished_run, workdir=tmp_path, init=f"timm:{path}", settings=SHORT)
    path.write_bytes(b"PK a torch file")
    with pytest.raises(ValueError, match=r"not a readable safetensors.*; write one with safetens"):
        open_job(finished_run, workdir=tmp_path, init=f"timm:{path}", settings=SHORT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "smal"}, "no recipe called 'smal'; known: .*; did you mean 'small'"),
        ({"settings": {"epoch": 3}}, "epoch: unknown key.*epochs"),
        ({"settings": {"replicas": 3}}, "`batch`: 3 replicas share it evenly, got 64; use 66"),
        (
            {"workers": 2, "ray": "local"},
            "`workers` 2: .* got replicas 1; give `settings` replicas=2",
        ),
        ({"workers": 2, "settings": {"replicas": 2}}, "`workers`: goes with `ray`"),
        ({"workdir": "s3://a/b"}, "`workdir` s3://a/b: trainings write to a path"),
        ({"init": "nowhere"}, "nowhere: holds no trained network"),
        ({"network": "small-32"}, "`data`: small-32 is a network alone, so its data must be given"),
        ({"network": "small-33"}, "no network called 'small-33'"),
        ({"init": "supernet", "network": "SPEC"}, "`init` supernet: needs the result"),
    ],
)
def test_mistakes(
    change: dict[str, Any], message: str, finished_run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    given: dict[str, Any] = {"network": finished_run, "workdir": tmp_path / "t", **change}
    if given["network"] == "SPEC":
        given["network"] = search_spaces.load(finished_run / "fine" / "architecture.yaml")
        given["data"] = f"npz:{finished_run.parent / 'tiny' / 'tiny.npz'}"
    with pytest.raises(ValueError, match=message):
        nas.train(**given)
    assert not (tmp_path / "t" / "checkpoints").exists()


def test_another_training_in_the_folder_is_refused(
    result: nas.TrainResult, finished_run: pathlib.Path
) -> None:
    with pytest.raises(ValueError, match=r"holds another training \(.*epochs.*choose another"):
        nas.train(finished_run, workdir=result.path, settings={**SHORT, "epochs": 4})


def test_other_classes_need_a_word(finished_run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    spec = with_classes(search_spaces.load(finished_run / "fine" / "architecture.yaml"), 5)
    data = f"npz:{finished_run.parent / 'tiny' / 'tiny.npz'}"
    with pytest.raises(ValueError, match=r"has 3 classes .* has 5 outputs; with `fit_classes`"):
        nas.train(spec, data=data, workdir=tmp_path, settings=SHORT)
    from nas.api.training import open_job

    job = open_job(spec, data=data, workdir=tmp_path, settings=SHORT, fit_classes=True)
    assert job.spec.classes == 3


def test_a_recipe_may_be_an_object(finished_run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    from nas.api.training import open_job

    job = open_job(finished_run, recipe=TrainConfig(steps=5), workdir=tmp_path)
    assert job.config.steps == 5
