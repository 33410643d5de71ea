"""What the source never does, read from its syntax trees: unpickle, run shells, build SQL or HTML of texts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "weakseg"
MODULES = sorted(SOURCE.rglob("*.py"))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """(dotted name, call) of every call of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> object:
    """The constant that is given for a keyword; None without it."""
    found = next((one.value for one in call.keywords if one.arg == name), None)
    return found.value if isinstance(found, ast.Constant) else found


def unsafe(name: str, call: ast.Call) -> str:
    """Why a call has no place in the source; else nothing."""
    last = name.rpartition(".")[2]
    if name in ("eval", "exec", "os.system", "os.popen", "marshal.loads", "__import__") or name.startswith("joblib."):
        return "runs texts or objects"
    if last in ("load", "loads", "Unpickler") and name.split(".")[0] in ("pickle", "cPickle", "dill", "cloudpickle"):
        return "unpickles"
    if name == "torch.load" and keyword(call, "weights_only") is not True:
        return "torch.load without weights_only=True"
    if name in ("np.load", "numpy.load") and keyword(call, "allow_pickle") is not False:
        return "np.load without allow_pickle=False"
    if name.startswith("yaml.") or (last == "YAML" and _kind(call) not in ("safe", None)):
        return "YAML that builds objects"
    if keyword(call, "shell") not in (None, False):
        return "a shell"
    if last in ("execute", "executescript", "executemany") and call.args and isinstance(call.args[0], ast.JoinedStr):
        return "SQL of a formatted text"
    if last in ("extractall", "extract") or name == "shutil.unpack_archive":
        return "unpacks members under their own names"
    return ""


def _kind(call: ast.Call) -> object:
    return keyword(call, "typ")


# Parts of one stage hand their results on in the workspace's own scratch folder, which nobody names; dvc.yaml beside it
# holds commands, so whoever writes there may run anything anyway.
OWN_PICKLES = {"training/shards.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_unpickles_or_runs_what_files_say(path: Path) -> None:
    found = [f"line {call.lineno}: {name}: {why}" for name, call in calls(path) if (why := unsafe(name, call))]
    if str(path.relative_to(SOURCE)) in OWN_PICKLES:
        assert [text.rpartition(" ")[2] for text in found] == ["unpickles"]
        return
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(f)", "torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p, allow_pickle=True)",
        "np.load(p)", "subprocess.run(c, shell=True)", "os.system(c)", "db.execute(f'select {x}')",
        "archive.extractall(p)", "eval(t)", "yaml.load(t)", "YAML(typ='unsafe')",
    ],
)  # fmt: skip
def test_the_check_sees_what_it_looks_for(line: str) -> None:
    call = ast.parse(line).body[0].value  # type: ignore[attr-defined]
    assert unsafe(ast.unparse(call.func), call)


WORDS = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function")


def test_pages_never_make_html_of_texts() -> None:
    scripts = [path for kind in ("*.js", "*.html") for path in SOURCE.rglob(kind)]
    assert len(scripts) >= 5
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        for word in WORDS:
            assert word not in text, f"{path}: {word}"


def test_the_template_of_the_report_trusts_markers_alone() -> None:
    text = (SOURCE / "report" / "templates" / "index.html").read_text(encoding="utf-8")
    trusted = [part.partition("}}")[0] for part in text.split("{{")[1:]]
    trusted = [part for part in trusted if "safe" in part.split("|")[-1].split()]
    assert [part.strip().partition("(")[0] for part in trusted] == ["charts.marker"]


def test_what_markup_holds_is_escaped() -> None:
    """Markup(...) of a formatted text would let names through; charts escape each."""
    for path in MODULES:
        for name, call in calls(path):
            if name.endswith("Markup"):
                assert not any(isinstance(one, ast.JoinedStr) for one in call.args), f"{path}, line {call.lineno}"
