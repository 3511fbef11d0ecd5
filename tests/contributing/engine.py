"""Rows about the engine: each edits a copy, and returns code that must run there."""

from __future__ import annotations

import pathlib

from .edits import ROOT, change, write


def add_searcher(root: pathlib.Path) -> str:
    change(
        root,
        "nas/searchers/host.py",
        '"evolution": Evolution}',
        '"evolution": Evolution, "mine": Random}',
    )
    return """
    from nas.run.config import DeriveConfig
    assert DeriveConfig(by="mine").by == "mine"
    """


def add_source(root: pathlib.Path) -> str:
    write(
        root,
        "nas/data/sources/grey.py",
        '''\
        """Grey images of two classes."""

        import numpy as np

        from nas.data.collection import ArrayImages, RawDataset


        def open_grey(rest: str) -> RawDataset:
            """As many images as the text says."""
            count = int(rest)
            pixels = np.arange(count * 192).reshape(count, 8, 8, 3).astype(np.uint8)
            labels = (np.arange(count) % 2).astype(np.int32)
            images = ArrayImages(pixels, labels, "grey")
            return RawDataset("grey", ("a", "b"), {"train": images}, "0" * 64)
        ''',
    )
    path = "nas/data/sources/__init__.py"
    text = (root / path).read_text(encoding="utf-8")
    assert text.count('"tfds": open_tfds') == 1
    text = text.replace('"tfds": open_tfds', '"tfds": open_tfds, "grey": open_grey')
    first = text.index("from nas.data.sources.image_folder")
    line = "from nas.data.sources.grey import open_grey\n"
    (root / path).write_text(text[:first] + line + text[first:], encoding="utf-8")
    return """
    from nas.data.load import load_dataset
    data = load_dataset("grey:40", 8)
    assert data.train.shape == (8, 8, 3) and len(data.validation) == 4
    """


def add_teacher(root: pathlib.Path) -> str:
    path = "nas/distillation/backends.py"
    row = '"checkpoint": _checkpoint'
    change(root, path, row, f'{row}, "uniform": lambda path, spec: TeacherBackend(lambda x: x, 2)')
    return """
    import pathlib
    from nas.distillation import teacher
    pathlib.Path("t.bin").write_bytes(b"x")
    pathlib.Path("t.yaml").write_text("name: t\\nsize: 8\\n")
    teacher.Teacher(teacher.describe("uniform:t.bin"), ("a", "b"))
    """


def add_recipe(root: pathlib.Path) -> str:
    path = "nas/data/augment/recipes.py"
    row = '        "crop": Recipe("Inception crop", random_resized_crop),\n'
    change(root, path, row, f'{row}        "mine": Recipe("another crop", random_resized_crop),\n')
    return """
    import pathlib, numpy as np
    from nas.distillation.request import build_request
    arrays = {"train_images": np.zeros((40, 8, 8, 3), np.uint8), "train_labels": np.arange(40) % 2}
    np.savez("a.npz", **arrays)
    assert build_request("npz:a.npz", recipe="mine")[0].recipe == "mine"
    """


def add_optimiser(root: pathlib.Path) -> str:
    change(root, "nas/run/optimizers.py", '"adamw": _adamw', '"adamw": _adamw, "lion": _lion')
    change(
        root,
        "nas/run/optimizers.py",
        "def _adamw(",
        "def _lion(rate):\n    import optax\n\n    return optax.lion(rate)\n\n\ndef _adamw(",
    )
    return """
    from nas.run import optimizers
    from nas.run.config import WeightsConfig
    from nas.run.train_config import TrainConfig
    assert TrainConfig(optimizer="lion").optimizer == WeightsConfig(optimizer="lion").optimizer
    optimizers.build("lion", 0.1, 10, 0.1)
    """


def add_task(root: pathlib.Path) -> str:
    write(
        root,
        "nas/tasks/brightness.py",
        '''\
        """Say how bright an image is."""

        import numpy as np


        class Brightness:
            """Regression of the mean pixel."""

            def targets(self, examples):
                """[...] float32."""
                return (examples.images.mean((-1, -2, -3)) / 255).astype(np.float32)

            reference = targets

            def loss(self, outputs, targets):
                """Squared error."""
                return ((outputs[:, 0] - targets) ** 2).mean()

            def quality(self, outputs, reference):
                """1 - absolute error."""
                return 1 - abs(outputs[:, 0] - reference).mean()
        ''',
    )
    return """
    import dataclasses, jax, numpy as np, optax, search_spaces
    from nas.data.dataset import Examples
    from nas.tasks.brightness import Brightness
    from nas.run.train_config import TrainConfig
    from nas.training.program import TrainBatch, Training
    from search_spaces import ArchSpec, yaml_io
    text = "name: a\\nresolution: 4\\nblocks: [{kind: pool}, {kind: classifier, classes: 2}]"
    spec = yaml_io.parse_model(text, ArchSpec, "a")
    task = Brightness()
    training = Training(spec, TrainConfig(steps=3, batch=4), 0.5, 0.25, task)
    images = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 4, 3)).astype(np.uint8)
    batch = TrainBatch(images, task.targets(Examples(images, np.zeros((1, 4), np.int32), None)))
    key = training.replicas.root_key(0)
    state, first = training.step(training.init(0), batch, key)
    for _ in range(20):
        state, last = training.step(state, batch, key)
    assert last["loss"] < first["loss"]
    """


def add_training_recipe(root: pathlib.Path) -> str:
    write(root, "experiments/recipes/mine.yaml", "epochs: 3\nlearning_rate: 0.05\n")
    return """
    from nas.run import config_files
    from nas.run.train_config import TrainConfig
    assert config_files.load("mine", TrainConfig, kind="recipes").epochs == 3
    """


def add_format(root: pathlib.Path) -> str:
    change(
        root,
        "nas/exporters/formats.py",
        "FORMATS: Family",
        "def _text(subject):\n    name = subject.spec.name.encode()\n"
        '    return Exported({"txt": name}, None, "nothing")\n\n\nFORMATS: Family',
    )
    change(root, "nas/exporters/formats.py", '"onnx": _onnx', '"text": _text, "onnx": _onnx')
    return """
    import pathlib, tempfile, types
    import numpy as np
    from nas.exporters import export
    info = types.SimpleNamespace(classes=(), size=4, mean=0.5, std=0.25)
    spec = types.SimpleNamespace(name="a")
    subject = types.SimpleNamespace(spec=spec, info=info)
    with tempfile.TemporaryDirectory() as folder:
        given = (subject, "text", pathlib.Path(folder), np.zeros(1), np.zeros(1))
        path, record = export.export(*given)
        assert path.read_text() == "a" and "not run" in record.warnings[0]
    """


def add_configuration(root: pathlib.Path) -> str:
    write(root, "experiments/configs/mine.yaml", "name: mine\ntargets: ['macs:5M']\n")
    return """
    from nas.api.session import open_session
    assert open_session("mine").config.name == "mine"
    """


def add_command(root: pathlib.Path) -> str:
    write(
        root,
        "nas/cli/estimate.py",
        '''\
        """`nas-estimate`: one number."""

        import sys

        from nas.api.costs import estimate


        def main() -> None:
            """Parse, call, print."""
            print(f"{estimate(*sys.argv[1:]).ms:.1f}")


        if __name__ == "__main__":
            main()
        ''',
    )
    scripts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'nas-search = "nas.cli.search:main"' in scripts
    return """
    import subprocess, sys
    command = [sys.executable, "-m", "nas.cli.estimate", "mnv4-conv-s", "pixel6-cpu"]
    assert float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) > 0
    """
