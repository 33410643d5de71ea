"""The layers of the source tree, read from the imports of every file (docs/architecture.md has the table)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import weakseg
from weakseg.core.import_graph import Package, reach

PACKAGE = Path(weakseg.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") for path in FILES]

FOLDERS = (  # a file imports only from its own folder and from those before it
    *("core", "raster", "labels", "data", "networks", "evaluation", "methods", "training", "inference"),
    *("maps", "export", "serving", "tracking", "registry", "pipeline", "report", "tagging", "stages", "studies", "cli"),
)
SCRIPTS = {  # run by path, never imported by us: what they need is there when they run
    "serving.registered_model",  # MLflow runs it to make and to load a registered model
}
TORCH_IN_DATA = {"data.crops.augment", "data.crops.area_crops", "data.crops.tag_dataset"}
LAZY = {
    *("mlflow", "timm", "segmentation_models_pytorch", "torchvision", "matplotlib", "rasterio", "sklearn"),
    *("pydensecrf", "optuna", "onnx", "onnxruntime", "openvino", "plotly", "geopandas", "shapely", "pyogrio", "dvc"),
}


@cache
def imports_of(name: str) -> tuple[tuple[str, bool], ...]:
    """(module, at import time?) of every import of one file; ``if TYPE_CHECKING`` blocks run never."""
    tree = ast.parse(FILES[NAMES.index(name)].read_text())
    found: list[tuple[str, bool]] = []
    _walk(tree, True, found)
    return tuple(found)


def _walk(node: ast.AST, runs: bool, found: list[tuple[str, bool]]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            found.extend((alias.name, runs) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            base = str(child.module)
            found.append((base, runs))
            found.extend((f"{base}.{alias.name}", runs) for alias in child.names if f"{base}.{alias.name}" in MODULES)
        _walk(child, runs and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda), found)


MODULES = {f"weakseg.{name}" for name in NAMES}


def place(name: str) -> int:
    return FOLDERS.index(name.split(".")[0])


def own_imports(name: str, *, at_import: bool = False) -> set[str]:
    """weakseg modules that a file imports, anywhere or at import time only."""
    return {
        module.removeprefix("weakseg.")
        for module, runs in imports_of(name)
        if module in MODULES and (runs or not at_import)
    }


def outside_imports(name: str, *, at_import: bool) -> set[str]:
    return {module.split(".")[0] for module, runs in imports_of(name) if runs or not at_import} - {"weakseg"}


IN_FOLDERS = [name for name in NAMES if "." in name]


def test_the_package_is_read() -> None:
    assert {"core.errors", "raster.open", "networks.build", "training.fit", "stages.segment"} <= set(NAMES)
    assert own_imports("training.checkpoints") == {
        *(
            "core.bands",
            "core.classes",
            "core.errors",
            "core.files",
            "core.model_facts",
            "data.crops.augment",
            "networks.tensor_files",
        ),
    }


def test_nothing_lies_loose() -> None:
    assert {name for name in NAMES if name not in IN_FOLDERS} - set(FOLDERS) == {"__init__", "__main__"}
    assert {name.split(".")[0] for name in IN_FOLDERS} <= set(FOLDERS)


@pytest.mark.parametrize("name", IN_FOLDERS)
def test_a_file_imports_only_from_the_folders_before_its_own(name: str) -> None:
    after = {other for other in own_imports(name) if place(other) > place(name)}
    assert not after, f"{name} imports {sorted(after)}"


def test_the_package_itself_imports_nothing() -> None:
    assert {module for module, _ in imports_of("__init__")} <= {"__future__", "importlib", "typing"}


@pytest.mark.parametrize("name", [name for name in IN_FOLDERS if place(name) <= FOLDERS.index("data")])
def test_pixels_need_no_torch(name: str) -> None:
    if name not in TORCH_IN_DATA:
        assert not outside_imports(name, at_import=False) & {"torch", "accelerate"}
        assert not TORCH_IN_DATA & own_imports(name)


def test_what_turns_a_raster_into_a_map_needs_no_torch() -> None:
    """A bundle carries all that its program reaches: it must not grow by a framework unnoticed."""
    found = {name.removeprefix("weakseg.") for name in reach(Package(PACKAGE), "weakseg.export.bundled")} - {"weakseg"}
    assert {"inference.run", "inference.mosaic", "raster.stream", "raster.write"} <= found
    used = set().union(*(outside_imports(name, at_import=False) for name in found))
    assert not used & {"torch", "accelerate", "mlflow", "dvc", "typer", "pydantic", "rich", "pandas"}


@pytest.mark.parametrize("name", NAMES)
def test_heavy_packages_wait_for_their_function(name: str) -> None:
    if name in SCRIPTS:
        assert not [other for other in NAMES if name in own_imports(other)]
        assert not own_imports(name, at_import=True)
        return
    assert not outside_imports(name, at_import=True) & LAZY


def test_outside_packages_have_a_home() -> None:
    """Rasters are opened in raster/, accelerate belongs to training, the CRF library to methods/crf."""
    homes = {
        "rasterio": ("raster.", "labels.", "data.importing.", "data.scenes.", "maps."),
        "pydensecrf": ("methods.crf",),
        "numba": ("methods.permutohedral",),
        "accelerate": ("training.",),
        "openvino": ("inference.engine", "inference.upsampling"),
        "sklearn": ("methods.classifier", "labels.suspicion"),
    }
    for package, home in homes.items():
        users = {name for name in NAMES if package in outside_imports(name, at_import=False)}
        assert not {name for name in users if not name.startswith(home)}, package
        assert bool(users) == bool(home), package


def test_networks_know_no_params() -> None:
    """Networks and metrics take plain arguments: they read neither params nor paths of a workspace."""
    for name in IN_FOLDERS:
        if name.split(".")[0] in ("networks", "evaluation"):
            assert not own_imports(name) & {"core.params", "core.layout"}, name


def test_imports_have_no_cycle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in sorted(own_imports(name, at_import=True)):
                visit(other, (*path, name))
            done.add(name)

    for name in NAMES:
        visit(name, ())
