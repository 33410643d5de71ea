"""The data and the reports of an earlier commit, out of git and DVC's cache: nothing of the workspace is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakseg.core.config import parse_yaml
from weakseg.core.errors import DataError
from weakseg.core.layout import Layout


@dataclass(frozen=True)
class DataVersion:
    """data/ of one commit.

    Attributes:
        rev: as it was named.
        commit: git's hash.
        md5: that DVC gave data/.
        files: content md5 by path inside data/.
        lock: dvc.lock of the commit, {} where there is none.
    """

    rev: str
    commit: str
    md5: str
    files: Mapping[str, str]
    lock: Mapping[str, Any]

    def trained_on(self, source: str) -> str:
        """The md5 of data/ from which the evaluation of a source in dvc.lock was made, "" where that is not known.

        Tiles may have been made again since a source was trained: then its network is not of these data.
        """
        links = (
            (self._md5("tiles", "outs", "out/tiles"), self._md5(f"segment@{source}", "deps", "out/tiles")),
            (
                self._md5(f"segment@{source}", "outs", f"out/checkpoints/{source}"),
                self._md5(f"evaluate@{source}", "deps", f"out/checkpoints/{source}"),
            ),
        )
        whole = all(made and made == read for made, read in links)
        return self._md5("tiles", "deps", "data") if whole else ""

    def _md5(self, stage: str, kind: str, path: str) -> str:
        entries = (self.lock.get("stages") or {}).get(stage, {}).get(kind) or []
        return next((str(entry.get("md5", "")) for entry in entries if entry.get("path") == path), "")


def read_version(root: Path, rev: str, cache: Path) -> DataVersion:
    """What git and DVC's cache know of data/ at a commit.

    Raises:
        DataError: no git repository, no such commit, no data.dvc in it, or its list of files is not in the cache.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}", say=f"git knows no commit {rev!r}")
    text = _git(root, "show", f"{commit}:./data.dvc", say=f"commit {rev} has no data.dvc in {root}")
    outs = (parse_yaml(text, f"data.dvc of {rev}") or {}).get("outs") or [{}]
    md5 = str(outs[0].get("md5", ""))
    lock = _git(root, "show", f"{commit}:./dvc.lock", say=None)
    listed = cached_file(cache, md5)
    if listed is None:
        raise _not_cached(f"the list of files of data/ at {rev} ({md5})", cache)
    files = {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(listed.read_text())}
    return DataVersion(rev, commit, md5, files, parse_yaml(lock, f"dvc.lock of {rev}") if lock else {})


def link_version(version: DataVersion, place: Layout, cache: Path, names: Iterable[str]) -> Layout:
    """Links in ``place``/data to these files of a version, by their paths inside data/.

    Raises:
        DataError: one of them is not in the cache.
    """
    for name in names:
        source = cached_file(cache, version.files[name])
        if source is None:
            raise _not_cached(f"data/{name} of {version.rev} ({version.files[name]})", cache)
        target = place.data / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.resolve())
    return place


def locked_output(version: DataVersion, cache: Path, path: str) -> Path | None:
    """The cached file that a stage of that commit's dvc.lock wrote to ``path``; None where there is none."""
    for stage in (version.lock.get("stages") or {}).values():
        for out in stage.get("outs") or []:
            if out.get("path") == path:
                return cached_file(cache, str(out.get("md5", "")))
    return None


def cache_folder(root: Path) -> Path:
    """Where DVC keeps its files.

    Raises:
        DataError: no DVC here.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DataError(f"no DVC in {root}", expected="a workspace of `weakseg init`", cure="name it with --root")
    return (root / done.stdout.strip().splitlines()[-1]).resolve()


def cached_file(cache: Path, md5: str) -> Path | None:
    """The file with this hash in DVC's cache, as DVC 3 or as DVC 2 keeps it; None where it is not there."""
    places = (cache / "files" / "md5" / md5[:2] / md5[2:], cache / md5[:2] / md5[2:])
    return next((place for place in places if len(md5) > 2 and place.is_file()), None)


def _not_cached(what: str, cache: Path) -> DataError:
    return DataError(
        f"{what} is not in DVC's cache {cache}",
        expected="both versions of the labels",
        cure="run `dvc fetch --all-commits data.dvc`",
    )


def _git(root: Path, *words: str, say: str | None) -> str:
    """What git prints; DataError with ``say`` where it fails, or "" where that is None."""
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout if words[0] == "show" else done.stdout.strip()
    if say is None:
        return ""
    inside = subprocess.run(["git", "rev-parse"], cwd=root, capture_output=True, check=False).returncode == 0
    raise DataError(
        say if inside else f"no git repository around {root}",
        expected="a commit with a data.dvc" if inside else "labels under git and DVC",
        cure="name another with `git log data.dvc`" if inside else "run `git init` and `dvc add data`, and commit",
    )
