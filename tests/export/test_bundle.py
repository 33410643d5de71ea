"""What a bundle carries and runs: every map of ``weakseg predict`` byte for byte, in bounded memory, without torch."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.shutil import copy as copy_raster
from tests.export.test_model_files import UNPOOL, taught_file
from tests.inference.one_raster import predict_raster
from tests.inference.test_large_rasters import sparse
from tests.inference.test_predict import CPU, ROTATED, UTM, model_file, picture, read, save

import weakseg
from weakseg.core.bands import parse_bands
from weakseg.core.classes import IGNORE
from weakseg.core.errors import DataError
from weakseg.core.import_graph import Package
from weakseg.export.bundled import main
from weakseg.export.model_files import export_bundle
from weakseg.inference.options import Options
from weakseg.inference.predict import predict_mosaic, predict_rasters
from weakseg.raster.stream import inspect_source

UV = next(filter(None, [shutil.which("uv"), *map(str, Path(__file__).parents[2].glob(".tools/bin/uv"))]), None)
Script = Callable[..., str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights that was trained at 0.1 m per px, halved."""
    folder = tmp_path_factory.mktemp("bundle")
    export_bundle(model_file(folder / "m.pt", 0.5, gsd=0.1), folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def script(bundle: Path, capsys: pytest.CaptureFixture[str]) -> Script:
    """Run the bundle's program in this process; what it says, and SystemExit where it ends with a sentence."""

    def run(*arguments: object, folder: Path = bundle) -> str:
        main(folder, [*map(str, arguments), "--window", "64", "--threads", "1"])
        return capsys.readouterr().out

    return run


def assert_same_map(found: Path, expected: Path) -> None:
    """Every px of every band, the same place and format."""
    np.testing.assert_array_equal(read(found), read(expected))
    with rasterio.open(found) as ours, rasterio.open(expected) as other:
        for name in ("crs", "transform", "nodata", "shape", "dtypes", "block_shapes", "compression"):
            assert getattr(ours, name) == getattr(other, name), name
        assert ours.colormap(1) == other.colormap(1)
        assert _words(ours) == _words(other)
        assert [(p.row, p.col, p.x, p.y) for p in ours.gcps[0]] == [(p.row, p.col, p.x, p.y) for p in other.gcps[0]]
        assert ours.gcps[1] == other.gcps[1]
        assert ours.rpcs == other.rpcs
        assert ours.tags()["CLASS_4"] == other.tags()["CLASS_4"] == "car"


def _words(file: rasterio.DatasetReader) -> dict[str, str]:
    """Tags, but for those of the file that the model came from and of its engine."""
    return {key: value for key, value in file.tags().items() if not key.startswith("WEAKSEG")}


POINTS = [
    GroundControlPoint(row=r, col=c, x=x, y=y)
    for r, c, x, y in [(0, 0, 497000, 5420000), (0, 130, 497013, 5420001), (90, 0, 496999, 5419991)]
]
RPCS = RPC(
    height_off=0, height_scale=500, lat_off=47.8, lat_scale=0.1, long_off=9, long_scale=0.1,
    line_off=2, line_scale=2, samp_off=3, samp_scale=3, err_bias=None, err_rand=None,
    line_num_coeff=[0.0, 0.0, -1.0] + [0.0] * 17, line_den_coeff=[1.0] + [0.0] * 19,
    samp_num_coeff=[0.0, 1.0] + [0.0] * 18, samp_den_coeff=[1.0] + [0.0] * 19,
)  # fmt: skip
PLACES: dict[str, dict[str, object]] = {
    "nowhere": {},
    "utm": UTM,
    "rotated": ROTATED,
    "degrees": {"crs": "EPSG:4326", "transform": rasterio.Affine(1e-6, 0, 8.9, 0, -1e-6, 48.9)},
    "Web Mercator": {"crs": "EPSG:3857", "transform": rasterio.Affine(0.1, 0, 1e6, 0, -0.1, 6.8e6)},
    "feet": {"crs": "EPSG:2263", "transform": rasterio.Affine(0.4, 0, 984250, 0, -0.4, 200000)},
    "control points": {"gcps": POINTS, "crs": "EPSG:25832"},
    "rational polynomials": {"rpcs": RPCS},
    "CRS without a place": {"crs": "EPSG:25832"},
    "BigTIFF, big-endian": {**UTM, "BIGTIFF": "YES", "ENDIANNESS": "BIG"},
    "twice as fine": {"crs": "EPSG:25832", "transform": rasterio.Affine(0.05, 0, 497000, 0, -0.05, 5420000)},
    "three times as coarse": {"crs": "EPSG:25832", "transform": rasterio.Affine(0.3, 0, 497000, 0, -0.3, 5420000)},
}


@pytest.mark.parametrize("kind", PLACES)
def test_the_script_gives_the_map_of_weakseg_predict(tmp_path: Path, bundle: Path, script: Script, kind: str) -> None:
    layers = picture(310, 230).clip(1, 255)
    layers[:, :90, :100] = layers[:, 200, 200:205] = 0
    source = save(tmp_path / "a.tif", layers, nodata=0, **PLACES[kind])
    answer = script(source, tmp_path / "alone.tif")
    predict_raster(bundle, source, tmp_path / "ours.tif", window=64, machine=CPU)
    assert_same_map(tmp_path / "alone.tif", tmp_path / "ours.tif")
    assert [line.split()[0] for line in answer.splitlines()[1:]] == list("01234")
    assert len(np.unique(read(tmp_path / "alone.tif"))) >= 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "alone.tif", "ours.tif"]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (129, 5), (256, 257)])
def test_small_rasters_and_whole_tiles(tmp_path: Path, bundle: Path, script: Script, height: int, width: int) -> None:
    source = save(tmp_path / "a.tif", picture(height, width), **UTM)
    script(source, tmp_path / "alone.tif", "--gsd", "ignore")
    predict_raster(bundle, source, tmp_path / "ours.tif", window=64, gsd="ignore", machine=CPU)
    assert_same_map(tmp_path / "alone.tif", tmp_path / "ours.tif")


def test_sidecars_palettes_and_floats_are_read_as_weakseg_reads_them(
    tmp_path: Path, bundle: Path, script: Script
) -> None:
    colours = Image.fromarray(np.moveaxis(picture(70, 90), 0, -1)).quantize(40)
    colours.save(tmp_path / "a!b [1].png", transparency=bytes(3 * [255] + [0] + 36 * [255]))
    (tmp_path / "a!b [1].pgw").write_text("0.1\n0\n0\n-0.1\n500000\n5762000\n")
    (tmp_path / "a!b [1].prj").write_text(rasterio.crs.CRS.from_epsg(3857).to_wkt(version="WKT1_ESRI"))
    floats = picture(70, 90).astype(np.float32)
    floats[:, :20], floats[1, 30], floats[2, 40] = np.nan, np.inf, np.nan
    save(tmp_path / "f.tif", floats, **UTM)
    for name, options in (("a!b [1].png", {"bands": (3, 1, 2)}), ("f.tif", {"stretch": (0.0, 200.0)})):
        told = [word for key, value in options.items() for word in (f"--{key}", ",".join(map(str, value)))]
        script(tmp_path / name, tmp_path / "alone.tif", *told)
        predict_raster(bundle, tmp_path / name, tmp_path / "ours.tif", window=64, machine=CPU, **options)
        assert_same_map(tmp_path / "alone.tif", tmp_path / "ours.tif")
        lost = np.asarray(colours) == 3 if name.endswith("png") else ~np.isfinite(floats).all(0)
        np.testing.assert_array_equal(read(tmp_path / "alone.tif")[0] == IGNORE, lost)
    with pytest.raises(SystemExit, match=r"a palette raster, bands 1,1,1; expected 1, 2 and 3 in any order"):
        script(tmp_path / "a!b [1].png", tmp_path / "alone.tif", "--bands", "1,1,1")


def test_jpegs_to_be_turned_are_turned(tmp_path: Path, bundle: Path, script: Script) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.moveaxis(picture(30, 40), 0, -1)).save(tmp_path / "a.jpg", exif=exif)
    script(tmp_path / "a.jpg", tmp_path / "alone.tif")
    predict_raster(bundle, tmp_path / "a.jpg", tmp_path / "ours.tif", window=64, machine=CPU)
    assert read(tmp_path / "alone.tif").shape == (1, 40, 30)
    assert_same_map(tmp_path / "alone.tif", tmp_path / "ours.tif")


def test_bands_bits_and_alpha(tmp_path: Path, bundle: Path, script: Script) -> None:
    deep = picture(90, 130, 4).astype(np.uint16) * 16
    source = save(tmp_path / "a.tif", deep, **UTM)
    with pytest.raises(SystemExit, match=r"4 band\(s\); expected 3 bands"):
        script(source, tmp_path / "alone.tif")
    with pytest.raises(SystemExit, match=r"dtype uint16; .*pass --stretch LOW,HIGH"):
        script(source, tmp_path / "alone.tif", "--bands", "4,1,2")
    script(source, tmp_path / "alone.tif", "--bands", "4,1,2", "--stretch", "100,3000")
    settings = {"bands": (4, 1, 2), "stretch": (100.0, 3000.0)}
    predict_raster(bundle, source, tmp_path / "ours.tif", window=64, machine=CPU, **settings)
    assert_same_map(tmp_path / "alone.tif", tmp_path / "ours.tif")
    layers = np.concatenate([picture(50, 50), np.full((1, 50, 50), 255, np.uint8)])
    layers[3, :, :20] = 0
    script(save(tmp_path / "b.tif", layers, photometric="rgb", alpha="YES"), tmp_path / "b_.tif", "--bands", "1,2,3")
    np.testing.assert_array_equal(read(tmp_path / "b_.tif")[0] == IGNORE, layers[3] == 0)


def test_all_layers_of_doubt_are_those_of_weakseg_predict(tmp_path: Path, script: Script) -> None:
    """A model that knows what it was trained on and has temperatures."""
    folder, source = tmp_path / "taught", save(tmp_path / "a.tif", picture(150, 130), **UTM)
    export_bundle(taught_file(tmp_path / "m.pt", UNPOOL), folder, applicability=True)
    kinds = ("probabilities", "confidence", "entropy", "margin", "applicability")
    alone, ours = ({kind: tmp_path / f"{who}_{kind}.tif" for kind in kinds} for who in ("alone", "ours"))
    told = [word for kind, path in alone.items() for word in (f"--{kind}", path)]
    answer = script(source, tmp_path / "alone.tif", *told, folder=folder)
    done = predict_raster(folder, source, tmp_path / "ours.tif", window=64, machine=CPU, **ours)
    for kind in kinds:
        np.testing.assert_array_equal(read(alone[kind]), read(ours[kind]))
    assert_same_map(tmp_path / "alone.tif", tmp_path / "ours.tif")
    assert done.unlike is not None
    assert ("is unlike anything the model has seen" in answer) == (done.unlike >= 0.005)


def test_folders_and_mosaics(tmp_path: Path, bundle: Path, script: Script) -> None:
    (tmp_path / "in").mkdir()
    for index in range(2):
        place = {"crs": "EPSG:25832", "transform": rasterio.Affine(0.1, 0, 497000 + 4 * index, 0, -0.1, 5420000)}
        save(tmp_path / "in" / f"{index}.tif", picture(60, 70), **place)
    script(tmp_path / "in", tmp_path / "alone")
    predict_rasters(bundle, str(tmp_path / "in"), tmp_path / "ours", machine=CPU, options=Options(window=64))
    for name in ("0.tif", "1.tif"):
        assert_same_map(tmp_path / "alone" / name, tmp_path / "ours" / name)
    script(tmp_path / "in", tmp_path / "alone", "--mosaic")
    predict_mosaic(bundle, str(tmp_path / "in"), tmp_path / "m.tif", machine=CPU, options=Options(window=64))
    assert_same_map(tmp_path / "alone" / "mosaic.tif", tmp_path / "m.tif")
    (tmp_path / "in" / "notes.docx").write_text("not read")
    with pytest.raises(SystemExit, match=r"notes\.docx would not be read"):
        script(tmp_path / "in", tmp_path / "alone")


def test_another_sampling_distance_is_refused_where_asked(tmp_path: Path, script: Script) -> None:
    source, nowhere = save(tmp_path / "a.tif", picture(40, 40), **ROTATED), save(tmp_path / "b.tif", picture(40, 40))
    target = tmp_path / "o.tif"
    with pytest.raises(SystemExit, match=r"0\.08547 m per px; expected 0\.1 m as in training.*--gsd resample"):
        script(source, target, "--gsd", "refuse")
    for policy in ("refuse", "resample"):
        with pytest.raises(SystemExit, match=r"b\.tif: no ground sampling distance in metres"):
            script(nowhere, target, "--gsd", policy)
    assert not target.exists()
    script(source, target, "--gsd", "ignore")
    ignored = read(target)
    script(source, target, "--gsd", "resample")
    assert (read(target) != ignored).any()


def test_outputs_and_options_that_make_no_map_are_refused(tmp_path: Path, script: Script) -> None:
    source = save(tmp_path / "a.tif", picture(40, 40), **UTM)
    before = source.read_bytes()
    for name in ("a.tif", "o.png"):
        with pytest.raises(SystemExit, match=r"different files that end in \.tif, none of them the input"):
            script(source, tmp_path / name)
    for words, said in (
        (("--stretch", "5,5"), "LOW < HIGH"),
        (("--stretch", "5"), "expected two numbers"),
        (("--overlap", "1"), "0 <= overlap < 1"),
        (("--batch", "0"), "batch 0; expected >= 1"),
        (("--gsd", "never"), "auto, resample, refuse or ignore"),
        (("--bands", "nir=4"), "--bands names band 4"),
        (("--terrain", source), "--terrain alone"),
        (("--heights", source), "the model has none"),
        (("--mosaic",), "--mosaic with one raster"),
        (("--applicability", tmp_path / "u.tif"), "does not know what it was trained on"),
    ):
        with pytest.raises(SystemExit, match=said):
            script(source, tmp_path / "o.tif", *words)
    sparse(tmp_path / "wide.tif", 2_000, 4_000_000)
    with pytest.raises(SystemExit, match=r"shared rows over 2000000 columns .*smaller --window"):
        script(tmp_path / "wide.tif", tmp_path / "o.tif", "--gsd", "ignore")
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "wide.tif"]


@pytest.mark.parametrize("options", [{}, {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64}])
def test_a_truncated_raster_ends_in_a_sentence_and_no_map(
    tmp_path: Path, bundle: Path, options: dict[str, object]
) -> None:
    source = save(tmp_path / "a.tif", picture(300, 200), **options)
    source.write_bytes(source.read_bytes()[: int(0.6 * source.stat().st_size)])
    run = run_alone(sys.executable, bundle, source, tmp_path / "o.tif")
    assert run.returncode == 1
    assert "a.tif" in run.stderr.splitlines()[-1]
    assert "; expected " in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["a.tif"]


def run_alone(python: object, bundle: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own that sees neither PYTHONPATH nor the folder it runs in."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [str(python), "-I", str(bundle / "predict.py"), *map(str, arguments), "--window", "64", "--threads", "1"]
    return subprocess.run(command, env=clean, cwd=bundle, capture_output=True, text=True, check=False)


TABOO = {
    "torch",
    "mlflow",
    "dvc",
    "typer",
    "pydantic",
    "rich",
    "accelerate",
    "pandas",
    "ruamel.yaml",
    "PIL",
    "psutil",
    "pyogrio",
}
NEVER_NEEDED = {"ruamel", "psutil", "pyogrio"}  # of YAML, vector files and, where it is there, of leftovers
CARRIED = {"core", "data", "evaluation", "export", "inference", "raster"}  # folders of modules


def test_the_modules_are_copies_that_need_what_the_requirements_name(bundle: Path) -> None:
    copies = {path.relative_to(bundle / "modules"): path for path in (bundle / "modules").rglob("*.py")}
    package, outside = Package(Path(weakseg.__file__).parent), set()
    for place, path in copies.items():
        assert path.read_bytes() == (package.folder.parent / place).read_bytes()
        outside |= _outside(ast.parse(path.read_bytes()))
    assert {place.parts[1] for place in copies} == CARRIED | {"__init__.py"}
    assert outside == {"numpy", "scipy", "cv2", "rasterio", "affine", "onnxruntime", *NEVER_NEEDED}
    assert 20 <= len(copies) <= 60  # what reads a raster and predicts
    assert "ruamel" not in _outside(ast.parse((bundle / "modules/weakseg/core/config.py").read_bytes()), late=False)
    assert "weakseg" not in {path.name for path in bundle.iterdir()}  # `import weakseg` in this folder is another one


def _outside(tree: ast.AST, *, late: bool = True) -> set[str]:
    """Packages that are imported, ``late`` in functions too; of rasterio, the parts that only type checkers see too."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
        if late or not isinstance(node, ast.FunctionDef):
            found |= _outside(node, late=late)
    return found - {"weakseg", *sys.stdlib_module_names}


def test_the_script_runs_where_all_else_is_missing(tmp_path: Path, bundle: Path, script: Script) -> None:
    """Without what the requirements do not name; whatever is imported of weakseg lies in the bundle."""
    source = save(tmp_path / "a.tif", picture(90, 130), **UTM)
    words = [source, tmp_path / "alone.tif", "--window", "64", "--threads", "1"]
    watched = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({sorted(TABOO)!r})); "
        f"sys.argv = {['predict.py', *map(str, words)]!r}; "
        f"runpy.run_path({str(bundle / 'predict.py')!r}, run_name='__main__'); "
        "print({m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'weakseg'})"
    )
    run = subprocess.run([sys.executable, "-I", "-c", watched], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    used = ast.literal_eval(run.stdout.splitlines()[-1])
    assert len(used) >= 20
    assert all(Path(path).is_relative_to(bundle / "modules") for path in used)
    script(source, tmp_path / "ours.tif")
    assert_same_map(tmp_path / "alone.tif", tmp_path / "ours.tif")


def test_memory_does_not_grow_with_the_height(tmp_path: Path, bundle: Path) -> None:
    """Six times as many rows: 24 MB as uint8 and 190 MB as probabilities, if anything kept them."""
    peaks = []
    for height in (800, 4_800):
        sparse(tmp_path / "a.tif", height, 2_000)
        watched = (
            "import rasterio, resource, runpy, sys; sys.argv[0] = 'predict.py'; full = rasterio.Env; "
            # GDAL's cache fills up to its bound, which would hide what grows here
            "rasterio.Env = lambda **settings: full(**settings | {'GDAL_CACHEMAX': 8 << 20}); "
            "runpy.run_path('predict.py', run_name='__main__'); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
        )
        command = [sys.executable, "-c", watched, str(tmp_path / "a.tif"), str(tmp_path / "o.tif"), "--threads", "1"]
        run = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=True)
        peaks.append(int(run.stdout.split()[-1]))
        found = read(tmp_path / "o.tif")[0]
        assert (found != IGNORE).sum() == 600 * 900
        assert found[height - 700 : height - 100, 1000:1900].max() < 5
    assert peaks[1] - peaks[0] < 20


@pytest.mark.slow
@pytest.mark.skipif(UV is None, reason="no uv to make an environment with")
def test_a_clean_environment_with_the_bundle_s_own_requirements(tmp_path: Path, bundle: Path) -> None:
    """As INSTRUCTIONS.md says, in an environment that has neither weakseg nor torch, from a copy of the folder."""
    moved = Path(shutil.copytree(bundle, tmp_path / "elsewhere"))
    environment = tmp_path / "env"
    python = environment / "bin" / "python"
    requirements = moved / "requirements.txt"

    def uv(*arguments: object) -> str:
        command = [str(UV), *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    uv("venv", "--python", sys.executable, environment)
    uv("pip", "install", "--python", python, "--requirement", requirements)
    installed = {row["name"] for row in json.loads(uv("pip", "list", "--python", python, "--format", "json"))}
    asked = {line.split(">=")[0] for line in requirements.read_text().split()}
    assert asked == {"numpy", "onnxruntime", "opencv-python-headless", "rasterio", "scipy"}
    assert asked <= installed
    assert not installed & (TABOO | {"weakseg", "onnx"})
    source = save(tmp_path / "a.tif", picture(310, 230).clip(1, 255), nodata=0, **ROTATED)
    run = run_alone(python, moved, source, tmp_path / "alone.tif")
    assert run.returncode == 0, run.stderr
    predict_raster(bundle, source, tmp_path / "ours.tif", window=64, machine=CPU)
    assert (read(tmp_path / "alone.tif") != read(tmp_path / "ours.tif")).mean() <= 2e-3  # other releases


def test_a_format_outside_the_list_is_refused(tmp_path: Path, script: Script) -> None:
    copy_raster(save(tmp_path / "a.tif", picture(60, 60)), tmp_path / "a.bmp", driver="BMP")
    with pytest.raises(SystemExit, match=r"a\.bmp: starts with .*gdal_translate"):
        script(tmp_path / "a.bmp", tmp_path / "o.tif")
    assert not (tmp_path / "o.tif").exists()


def described(path: Path, names: tuple[str, ...], count: int = 0, dtype: str = "uint8") -> Path:
    """A raster of 4 x 4 px whose bands have these descriptions."""
    layout = {"count": count or len(names), "width": 4, "height": 4, "dtype": dtype}
    with rasterio.open(path, "w", driver="GTiff", **layout) as file:
        if names:
            file.descriptions = names
    return path


_NAMED = [{"name": name, "dtype": "uint8", "augment": ["colour"]} for name in ("red", "green", "blue", "nir")]
FOUR, THREE = (parse_bands({"bands": _NAMED[:count]}, "the model") for count in (4, 3))


@pytest.mark.parametrize(
    ("names", "bands", "found"),
    [
        (("red", "green", "blue", "nir"), [], [1, 2, 3, 4]),
        (("NIR", "red", "Green", "blue"), [], [2, 3, 4, 1]),
        (("nir", "red", "green", "blue"), [1, 2, 3, 4], [1, 2, 3, 4]),
        (("nir", "red", "green", "swir1"), [], "no band blue"),
        ((), [], "band 4 is alpha by its flag, .*say what they are, --bands"),
        ((), [1, 2, 3, 4], [1, 2, 3, 4]),
    ],
)
def test_bands_are_found_by_name_and_alpha_is_none_of_them(
    tmp_path: Path, names: tuple[str, ...], bands: list[int], found: list[int] | str
) -> None:
    file = described(tmp_path / "a.tif", names, 4)
    if isinstance(found, str):
        with pytest.raises(DataError, match=found):
            inspect_source(file, bands or None, wanted=FOUR)
    else:
        assert list(inspect_source(file, bands or None, wanted=FOUR).bands) == found


@pytest.mark.parametrize(
    ("names", "bands", "found"),
    [
        (("blue", "green", "red"), [], [3, 2, 1]),
        (("blue", "green", "red"), [1, 2, 3], [1, 2, 3]),
        ((), [], [1, 2, 3]),
        (("nir", "red", "green"), [], r"no band blue \(3 band\(s\), nir, red, green\)"),
    ],
)
def test_colours_are_found_by_name_too(
    tmp_path: Path, names: tuple[str, ...], bands: list[int], found: list[int] | str
) -> None:
    file = described(tmp_path / "a.tif", names, 3)
    if isinstance(found, str):
        with pytest.raises(DataError, match=found):
            inspect_source(file, bands or None, wanted=THREE)
    else:
        assert list(inspect_source(file, bands or None, wanted=THREE).bands) == found
