"""The public surface is documented: every module, class, function, parameter and attribute."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("search_spaces", "latency_tables", "rewards", "nas", "experiments")
VAGUE = re.compile(r"^(What|How|Of|As it is)\b")
"""A first line is a noun phrase or an imperative."""

Definition = ast.FunctionDef | ast.ClassDef


def public(body: list[ast.stmt], path: str) -> Iterator[tuple[str, Definition]]:
    """(dotted name, node) of public classes and functions, and of the classes' members."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield f"{path}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{path}.{node.name}")


def is_overload(node: Definition) -> bool:
    return any("overload" in ast.unparse(line) for line in node.decorator_list)


def parameters(node: ast.FunctionDef) -> list[str]:
    arguments = node.args
    names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    names += [name for name in (arguments.vararg, arguments.kwarg) if name]
    found = [argument.arg for argument in names if not argument.arg.startswith("_")]
    return [name for name in found if name not in ("self", "cls")]


def fields(node: ast.ClassDef) -> list[str]:
    """Annotated fields of a class that has some, e.g. of a dataclass."""
    return [
        line.target.id
        for line in node.body
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and not line.target.id.startswith("_")
        and line.target.id not in ("kind", "schema_version", "model_config")
        and "ClassVar" not in ast.unparse(line.annotation)
    ]


def documented(text: str) -> set[str]:
    """Names with an entry of their own, one a line."""
    return set(re.findall(r"^\s+\*{0,2}(\w+)(?: \(.*?\))?: ", text, re.M))


def raises(node: ast.FunctionDef) -> bool:
    """Whether a function raises an error for users in its own body."""
    inner = {
        id(child)
        for definition in ast.walk(node)
        if isinstance(definition, ast.FunctionDef) and definition is not node
        for child in ast.walk(definition)
    }
    return any(
        isinstance(child, ast.Raise) and child.exc and "ValueError" in ast.unparse(child.exc)
        for child in ast.walk(node)
        if id(child) not in inner
    )


def base_methods(package: str) -> set[tuple[str, tuple[str, ...]]]:
    """(method, parameters) that some class documents in full: other classes may override them."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for line in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(line, ast.FunctionDef):
                    names = parameters(line)
                    text = ast.get_docstring(line, clean=False) or ""
                    if names and set(names) <= documented(text):
                        found.add((line.name, tuple(names)))
    return found


def problems(path: pathlib.Path, inherited: set[tuple[str, tuple[str, ...]]]) -> Iterator[str]:
    module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not ast.get_docstring(tree):
        yield f"{module}: no docstring"
    for name, node in public(tree.body, module):
        text = ast.get_docstring(node, clean=False)
        if is_overload(node):
            continue
        if not text:
            yield f"{name}: no docstring"
            continue
        if VAGUE.match(text):
            yield f"{name}: begins with {text.split()[0]!r}"
        if isinstance(node, ast.ClassDef):
            missing = set(fields(node)) - documented(text)
            if missing:
                yield f"{name}: Attributes lacks {', '.join(sorted(missing))}"
            continue
        missing = set(parameters(node)) - documented(text)
        if missing and (node.name, tuple(parameters(node))) not in inherited:
            yield f"{name}: Args lacks {', '.join(sorted(missing))}"
        if raises(node) and "Raises:" not in text:
            yield f"{name}: no Raises"


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_public_is_documented(package: str) -> None:
    inherited = base_methods(package)
    files = sorted((ROOT / package).rglob("*.py"))
    assert [line for path in files for line in problems(path, inherited)] == []
