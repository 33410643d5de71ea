"""A small DVC workspace with the project's pipeline, and DVC in it without a new Python for every command."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tests.faults import forks
from tests.faults.forks import Ended, Instant

PROJECT = Path(__file__).parents[2]
FILES = ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore")
UNCOMPARED = (".weakseg", "resume", "sheets")  # folders that are no outputs


@dataclass(frozen=True)
class Clone:
    """A workspace under DVC (no git): its folder, and what all its processes have in their environment."""

    root: Path
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.root.parent),
            "DVC_SITE_CACHE_DIR": str(self.root.parent / "site"),
            "DVC_NO_ANALYTICS": "1",
            "OMP_NUM_THREADS": "1",
            "WEAKSEG_CRF_WORKERS": "1",  # the processes of a pool import all of this once more
            **self.more,
        }

    def fork(self, work: Callable[[], Any], kill: Instant | None = None, **environment: str) -> Ended:
        """Do ``work`` in the workspace; without an instant it must end well."""
        ended = forks.run(work, folder=self.root, environment=self.environment | environment, kill=kill)
        assert kill is not None or ended.code == 0, ended.said[-4000:]
        return ended

    def dvc(self, *words: str, kill: Instant | None = None, **environment: str) -> Ended:
        """A command of DVC; its stages run in forks of the fork."""
        return self.fork(lambda: run_dvc(self.root, words), kill, **environment)

    def stage(self, name: str, source: str = "", kill: Instant | None = None, **environment: str) -> Ended:
        """A stage by hand."""
        return self.fork(lambda: run_stage(self.root, name, source), kill, **environment)

    def copy(self, place: Path) -> Clone:
        return Clone(Path(shutil.copytree(self.root, place, symlinks=True)), self.more)

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        params = yaml.safe_load((self.root / "params.yaml").read_text())
        edit(params)
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def outputs(self, *folders: str) -> dict[str, bytes]:
        """All files of out/ and reports/, or of these paths, by name."""
        found: dict[str, bytes] = {}
        for place in (self.root / folder for folder in folders or ("out", "reports")):
            for path in [place] if place.is_file() else place.rglob("*"):
                name = path.relative_to(self.root)
                if path.is_file() and not set(name.parts) & set(UNCOMPARED):
                    found[str(name)] = path.read_bytes()
        found.pop("reports/index.html", None)  # no output of the pipeline: it names MLflow runs
        return found


def make_clone(root: Path, build: Callable[[Path], Path], edit: Callable[[dict[str, Any]], None]) -> Clone:
    """The workspace that ``build`` makes, under DVC, its data added; ``edit`` changes the params."""
    made = Clone(build(root))
    for name in FILES:
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, root / name)
    shutil.copytree(PROJECT / "src" / "weakseg", root / "src" / "weakseg", ignore=shutil.ignore_patterns("__pycache__"))
    with (root / ".dvc" / "config").open("a") as config:
        config.write("    no_scm = true\n")
    made.change(edit)
    made.dvc("add", "-q", "data")
    return made


def run_stage(root: Path, name: str, source: str = "") -> None:
    """A stage in this process, as `python -m weakseg stage` runs it; its code is the workspace's own copy."""
    import weakseg
    from weakseg.stages import run_stage as run

    weakseg.__file__ = str(root / "src" / "weakseg" / "__init__.py")
    run(root, name, source or None)


def run_dvc(root: Path, words: Iterable[str]) -> int:
    """A command of DVC in this process; where it would start a shell and a Python for a stage, it forks."""
    import dvc.stage.run
    from dvc.cli import main

    def fork_stage(_executable: str, command: str, *, env: Mapping[str, str], **_options: Any) -> None:
        from dvc.stage.exceptions import StageCmdFailedError

        pid = os.fork()
        if pid == 0:
            _be_stage(root, command, env)
        _, status = os.waitpid(pid, 0)
        if status != 0:
            raise StageCmdFailedError(command, os.waitstatus_to_exitcode(status))

    dvc.stage.run._run = fork_stage  # type: ignore[assignment]
    return int(main(list(words)) or 0)


def _be_stage(root: Path, command: str, env: Mapping[str, str]) -> None:
    code = 1
    try:
        words = shlex.split(command)
        assert words[:4] == ["python", "-m", "weakseg", "stage"], command
        os.environ.update({**env, "DVC_STAGE": ""})
        del os.environ["DVC_STAGE"]  # it asks for DVC's own command line, which a fork does not have
        run_stage(root, *words[4:])
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def remove(root: Path, paths: Iterable[str]) -> None:
    """Delete outputs, as DVC does before it runs a stage."""
    for path in (root / name for name in paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def differing(one: Mapping[str, bytes], two: Mapping[str, bytes]) -> list[str]:
    """Names of files that are in one alone, or differ."""
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


def warm_up() -> None:
    """Import here what the forks need, so that none of them has to."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    import weakseg.inference.predict
    import weakseg.registry.promotion
    import weakseg.studies
    import weakseg.studies.objective  # noqa: F401
    from weakseg.stages import STAGES

    for stage in STAGES:
        __import__(f"weakseg.stages.{stage}")
