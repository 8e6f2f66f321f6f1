"""Rules of the house that no linter knows: imports, names, settings, and nothing unpickled."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ae_pipeline.config import Config, described

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())

HEAVY = ("matplotlib", "mlflow", "mne", "pandas", "prefect", "scipy", "sklearn", "torch")


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PACKAGE = {name_of(f): ast.parse(f.read_text()) for f in sorted(ROOT.glob("ae_pipeline/**/*.py"))}
FLOWS = {name_of(f): ast.parse(f.read_text()) for f in sorted(ROOT.glob("flows/**/*.py"))}
CODE = PACKAGE | FLOWS


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in a file, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant))


# ------------------------------------------------------------------------------ imports


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("ae_pipeline", (*HEAVY, "numpy", "pydantic")),
        ("ae_pipeline.study", HEAVY),
        ("ae_pipeline.jobs.train", HEAVY),
        ("ae_pipeline.cli", HEAVY),
    ],
)
def test_importing_stays_light(module: str, forbidden: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert set(done.stdout.split()).isdisjoint(forbidden)


def test_only_tracking_imports_mlflow_and_only_flows_import_prefect() -> None:
    using = {
        top: {
            name
            for name, tree in CODE.items()
            if any(i.split(".")[0] == top for i in imports(tree))
        }
        for top in ("mlflow", "prefect")
    }
    assert all(name.startswith("ae_pipeline.tracking.") for name in using["mlflow"])
    assert {name for name in using["prefect"] if not name.startswith("flows")} == set()


def test_only_the_command_line_imports_flows() -> None:
    using = {
        n for n, tree in PACKAGE.items() if any(i.split(".")[0] == "flows" for i in imports(tree))
    }
    assert all(name.startswith("ae_pipeline.cli.") for name in using)


def test_every_module_stands_in_a_layer() -> None:
    contracts = SETTINGS["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    placed = {part.strip(" ()") for layer in layers for part in layer.split("|")}
    found = {name for name in PACKAGE if name.count(".") == 1 and not name.endswith("__main__")}
    unplaced = sorted(found - placed)
    assert not unplaced


def distribution(name: str) -> str:
    """Name of a distribution from a requirement, as PyPI compares them."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~;\[]", name)[0]).lower()


def declared(*extras: str) -> set[str]:
    project = SETTINGS["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][e] for e in extras)]
    return {distribution(requirement) for each in lists for requirement in each}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("ae_pipeline", ("dask", "formats", "postgres", "umap")),
        ("flows", ()),
        ("tests", ("dask", "dev", "formats", "postgres", "umap")),
        ("benchmarks", ("bench", "dask", "dev", "umap")),
    ],
)
def test_every_import_is_a_declared_dependency(folder: str, extras: tuple[str, ...]) -> None:
    files = [*ROOT.glob(f"{folder}/**/*.py")]
    ours = {"ae_pipeline", "flows"}
    ours |= {
        file.stem for where in ("tests", "benchmarks") for file in ROOT.glob(f"{where}/**/*.py")
    }
    provides = packages_distributions()
    known = declared(*extras)
    missing = {}
    for file in files:
        for name in {i.split(".")[0] for i in imports(ast.parse(file.read_text()))}:
            if name in sys.stdlib_module_names or name in ours:
                continue
            # what is not installed here is an extra that has the name of its package
            names = {distribution(each) for each in provides.get(name, [name, f"{name}-learn"])}
            if not names & known:
                missing[str(file.relative_to(ROOT))] = name
    assert not missing


def test_what_is_declared_is_imported_or_says_why_not() -> None:
    provides = packages_distributions()
    used = {i.split(".")[0] for tree in CODE.values() for i in imports(tree)}
    found = {distribution(d) for name in used for d in provides.get(name, [])}
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    said = {distribution(line.strip().strip('"')) for line in lines if "# not imported" in line}
    assert declared() - found == said


# -------------------------------------------------------------------------------- names


def assigned(node: ast.stmt) -> list[str]:
    """Names that a statement binds by ``=``, several at once too."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = [name for target in targets for name in ast.walk(target)]
    return [name.id for name in names if isinstance(name, ast.Name)]


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if "__all__" in assigned(node) and isinstance(node, ast.Assign | ast.AnnAssign):
            assert node.value is not None
            return list(ast.literal_eval(node.value))
    return None


def top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements of a module, those under ``if`` and ``try`` among them."""
    for node in tree.body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from (child for child in ast.walk(node) if isinstance(child, ast.stmt))


@pytest.mark.parametrize("module", CODE)
def test_public_names_are_those_in_all(module: str) -> None:
    tree = CODE[module]
    public = exported(tree)
    if public is None:
        assert len(tree.body) == 1, (
            f"{module} has no __all__"
        )  # a room with a sign and nothing else
        return
    assert len(public) == len(set(public))

    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    known = defined | {name for node in top_level(tree) for name in assigned(node)}
    for node in top_level(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    assert set(public) <= known, "named in __all__ but not there"
    hidden = {name for name in defined if not name.startswith("_")} - set(public)
    assert not hidden, "public by its name but not in __all__"


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "base", "common", "misc"}
    assert not [name for name in CODE if name.split(".")[-1] in drawers]


def test_every_module_is_tested_itself_or_by_what_it_is_a_part_of() -> None:
    tests = [ast.parse(file.read_text()) for file in ROOT.glob("tests/**/*.py")]
    points = SETTINGS["project"].get("entry-points", {}).values()
    tested = {name for tree in tests for name in imports(tree)}
    tested |= {place.split(":")[0] for group in points for place in group.values()}
    parts = {name for module in tested & CODE.keys() for name in imports(CODE[module])}
    missing = {n for n in CODE if "." in n and not n.endswith("__main__")} - tested - parts
    # A package that only gathers its modules is tested by theirs.
    assert not {n for n in missing if not any(t.startswith(f"{n}.") for t in tested)}


# ----------------------------------------------------------------------------- settings


@pytest.fixture(scope="module")
def study() -> type[BaseModel]:
    from ae_pipeline.study import Study

    return Study


def settings(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
    """Every key of a study file, with the configuration it belongs to."""
    for name, field in model.model_fields.items():
        if name != "kind":  # pydantic reads it
            yield model, name, field
        for part in models_in(field.annotation):
            yield from settings(part)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield from annotation.members()  # the source of every kind that is installed
    for part in getattr(annotation, "__args__", ()):
        yield from models_in(part)


def reads(tree: ast.AST) -> Iterator[str]:
    """Names of attributes that are read, other than in the validators of a Config."""
    for node in ast.iter_child_nodes(tree):
        decorators = getattr(node, "decorator_list", [])
        if any("validator" in ast.unparse(decorator) for decorator in decorators):
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        yield from reads(node)


def test_every_setting_is_read_somewhere(study: type[BaseModel]) -> None:
    read = {name for tree in CODE.values() for name in reads(tree)}
    unread = {f"{model.__name__}.{name}" for model, name, _ in settings(study) if name not in read}
    assert not unread


def test_every_setting_is_explained(study: type[BaseModel]) -> None:
    # `init` prints the literal under a field as its comment in the study file.
    unexplained = {
        f"{model.__name__}.{name}"
        for model, name, _ in settings(study)
        if not described(model).get(name)
    }
    assert not unexplained


# ------------------------------------------------------------------------------ pickles


def test_nothing_is_ever_unpickled() -> None:
    modules = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    calls = {"torch.load", "pd.read_pickle", "pandas.read_pickle", "yaml.load", "yaml.unsafe_load"}
    calls |= {"yaml.full_load", "skops.io.load", "torch.jit.load"}
    found = []
    for module, tree in CODE.items():
        found += [f"{module}: import {n}" for n in imports(tree) if n.split(".")[0] in modules]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            trusting = any(
                keyword.arg == "allow_pickle"
                and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
                for keyword in node.keywords
            )
            if name in calls or trusting or name.endswith((".to_pickle", ".read_pickle")):
                found.append(f"{module}:{node.lineno}: {name}")
    assert not found
