"""Run a Dockerfile without an engine: its stages as folders, its RUN lines in a chroot on a plain Debian.

    apt-get install debootstrap
    python scripts/prove_dockerfile.py --target serve --build-arg DEVICE=cpu

needs root on Linux. The base image ``python:X-slim-bookworm`` is stood in for by a fresh minimal Debian with a copy of
a CPython without its packages in /usr/local (``--python``, default: the one that runs this). What an engine does beyond
that is not proven: layers, volumes, the network between containers, GPUs. Every line is printed; the first that fails
ends it. At the end the image's user runs the entry point, or what ``--then`` says.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
SYSTEM_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
LIBRARIES = (  # what CPython itself needs; libexpat1 is not among them: who needs it must ask for it
    *("ca-certificates", "netbase", "tzdata", "libbz2-1.0", "libffi8", "liblzma5", "libncursesw6", "libreadline8"),
    *("libsqlite3-0", "libssl3", "libuuid1", "zlib1g"),
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # of this machine, so that downloads work behind its proxy


@dataclass
class Stage:
    """An image in the making: its folder, and what ENV, ARG, WORKDIR, USER, ENTRYPOINT and CMD have set."""

    folder: Path
    environment: dict[str, str]
    arguments: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "root"
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def run(self, command: list[str], given: Mapping[str, str]) -> None:
        """A command inside, with its own /proc and the machine's /dev; raises CalledProcessError."""
        variables = {"HOME": "/root" if self.user == "root" else f"/home/{self.user}"}
        variables |= given | self.arguments | self.environment
        words = ["chroot", *([f"--userspec={self.user}"] if self.user != "root" else []), str(self.folder)]
        words += [
            "env",
            "-i",
            "-C",
            self.directory,
            *(f"{name}={value}" for name, value in variables.items()),
            *command,
        ]
        place = shlex.quote(str(self.folder))
        mounts = f"mount -t proc proc {place}/proc && mount --rbind /dev {place}/dev && exec {shlex.join(words)}"
        subprocess.run(["unshare", "--mount", "sh", "-c", mounts], check=True)


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, rest), continued lines joined, comments dropped."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in joined.splitlines()]


def make_base(folder: Path, python: Path) -> None:
    """A minimal Debian 12 with this CPython in /usr/local, once."""
    if (folder / "done").exists():
        return
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={','.join(LIBRARIES)}", "bookworm", str(folder / "root")],
        check=True,
    )
    inside, version = folder / "root" / "usr" / "local", f"python{sys.version_info.major}.{sys.version_info.minor}"
    ignore = shutil.ignore_patterns("site-packages", "__pycache__", "test", "*.a", "_tkinter*")
    shutil.copytree(python / "lib" / version, inside / "lib" / version, ignore=ignore)
    (inside / "lib" / version / "site-packages").mkdir()
    shutil.copytree(python / "include", inside / "include", dirs_exist_ok=True)
    for library in (python / "lib").glob("libpython*.so*"):
        shutil.copy2(library, inside / "lib" / library.name, follow_symlinks=False)
    shutil.copy2(python / "bin" / version, inside / "bin" / version)
    for name in ("python3", "python"):
        (inside / "bin" / name).symlink_to(version)
    stage = Stage(folder / "root", {"PATH": SYSTEM_PATH})
    stage.run(["sh", "-c", "ldconfig && python3 -m ensurepip --default-pip"], {})
    (folder / "done").touch()


def refresh_machine_files(folder: Path) -> None:
    """Name resolution and certificates of this machine."""
    shutil.copy("/etc/resolv.conf", folder / "etc" / "resolv.conf")
    shutil.copy("/etc/hosts", folder / "etc" / "hosts")
    shutil.copy(CERTIFICATES, folder / str(CERTIFICATES)[1:])


def copy(stage: Stage, words: list[str], stages: Mapping[str, Stage]) -> None:
    """COPY [--from=STAGE] SOURCE... TARGET, as the engine does it: folders by their content."""
    source = ROOT
    if words[0].startswith("--from="):
        source = stages[words.pop(0).removeprefix("--from=")].folder
    *names, target = words
    place = stage.folder / str(Path(stage.directory) / target)[1:]
    for name in names:
        thing = source / name.lstrip("/")
        if thing.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", "--no-preserve=ownership", f"{thing}/.", str(place)], check=True)
        else:
            into = place / thing.name if target.endswith("/") or len(names) > 1 else place
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(thing, into)


def fill(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match[1], ""), text)


def begin(rest: str, stages: Mapping[str, Stage], base: Path, work: Path) -> tuple[str, Stage]:
    """FROM ORIGIN AS NAME: a fresh folder with the content of the origin."""
    origin, _, name = rest.split()
    print(f"== FROM {origin} AS {name}", flush=True)
    parent, folder = stages.get(origin), work / name
    work.mkdir(parents=True, exist_ok=True)
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(parent.folder if parent else base), str(folder)], check=True)
    refresh_machine_files(folder)
    if parent:
        return name, replace(parent, folder=folder, environment=dict(parent.environment), arguments={})
    return name, Stage(folder, {"PATH": SYSTEM_PATH})


def carry_out(stage: Stage, instruction: str, rest: str, stages: Mapping[str, Stage], given: Mapping[str, str]) -> None:
    """One instruction inside a stage; one that this script does not know ends it."""
    print(f"-- {instruction} {rest}", flush=True)
    if instruction == "ENV":
        for word in shlex.split(rest):
            key, _, value = word.partition("=")
            stage.environment[key] = fill(value, stage.environment)
    elif instruction == "WORKDIR":
        stage.directory = rest
        (stage.folder / rest[1:]).mkdir(parents=True, exist_ok=True)
    elif instruction == "USER":
        stage.user = rest
    elif instruction == "COPY":
        copy(stage, rest.split(), stages)
    elif instruction == "RUN":
        stage.run(["/bin/sh", "-c", rest], given)
    elif instruction == "ENTRYPOINT":
        stage.entry, stage.command = json.loads(rest), []
    elif instruction == "CMD":
        stage.command = json.loads(rest)
    elif instruction not in ("VOLUME", "EXPOSE", "HEALTHCHECK"):
        raise SystemExit(f"{instruction} is not known here")


def build(
    text: str, *, base: Path, work: Path, target: str, chosen: Mapping[str, str], given: Mapping[str, str]
) -> Stage:
    """Carry out the instructions up to the end of ``target``; returns that stage."""
    outer: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    name = ""
    for instruction, rest in instructions(text):
        if instruction == "ARG":
            key, _, value = rest.partition("=")
            (stages[name].arguments if name else outer)[key] = chosen.get(key, value)
        elif instruction == "FROM":
            if name == target:
                break
            name, stage = begin(fill(rest, outer), stages, base, work)
            stages[name] = stage
        else:
            carry_out(stages[name], instruction, rest, stages, given)
    if name != target:
        raise SystemExit(f"no stage {target}; there are {', '.join(stages)}")
    return stages[target]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="train")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--env", action="append", default=[], metavar="NAME", help="of this machine, to hand to RUN")
    parser.add_argument("--python", type=Path, default=Path(sys.base_prefix), help="prefix of the CPython to copy")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/weakseg-images"))
    parser.add_argument("--then", default="", help="what the image's user runs at the end, in sh")
    options = parser.parse_args()
    make_base(options.work / "base", options.python)
    stage = build(
        (ROOT / "Dockerfile").read_text(),
        base=options.work / "base" / "root",
        work=options.work,
        target=options.target,
        chosen=dict(word.split("=", 1) for word in options.build_arg),
        given={name: os.environ[name] for name in options.env if name in os.environ},
    )
    final = ["sh", "-c", options.then] if options.then else [*stage.entry, *(stage.command if stage.entry else ["id"])]
    print(f"-- as {stage.user}: {shlex.join(final)}", flush=True)
    stage.run(final, {})
    print(f"every RUN line up to {options.target} succeeded")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:
        raise SystemExit(f"failed with {failed.returncode}: {shlex.join(failed.cmd)}") from None
