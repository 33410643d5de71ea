"""Whatever is done to a workspace, in any order, with kills anywhere: the last `dvc repro` is as if there were none."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from tests.faults import tally
from tests.faults.clones import Clone, differing
from tests.faults.forks import Ended, Instant

from weakseg.core.classes import ISPRS
from weakseg.labels.answer_file import AnswerFile, read_answers
from weakseg.labels.answers import TagAnswer, now

TARGETS = ("evaluate@pixel", "pseudo@cam")  # and with them tiles, classifier, cam and the training of task (i)
EVENTS, SECONDS = st.integers(1, 150), st.floats(0.02, 2.0)
INSTANTS = st.one_of(EVENTS.map(lambda n: Instant(event=n)), SECONDS.map(lambda s: Instant(seconds=s)))
DROPOUTS = (0.2, 0.37)  # the first is that of params.yaml
MODEL = "out/checkpoints/pixel/seed0.pt"
PREDICT = ["predict", "data/images/v1.tif", "maps/v1.tif", "--model", MODEL, "--engine", "torch"]


class Workshop:
    """What all runs of the machine share: a finished workspace, a registry, and undisturbed runs to compare with."""

    def __init__(self, place: Path, finished: Clone) -> None:
        self.place = place
        self.start = finished.copy(place / "home" / "start")
        self.start.change(lambda params: params["tune"].update(trials=2, startup=1))
        self.start.dvc("remote", "add", "-q", "-d", "folder", str(place / "remote"))
        self.start.fork(lambda: command(["promote", "pixel"]), **store_of(self.start))  # makes the database, once
        self.known: dict[tuple[float, bool], dict[str, bytes]] = {(DROPOUTS[0], False): self.start.outputs()}
        self.maps: dict[float, bytes] = {}
        self.draw_map(self.start, DROPOUTS[0])
        self.numbers = iter(range(1_000_000))

    def draw_map(self, clone: Clone, dropout: float) -> None:
        clone.fork(lambda: command(PREDICT))
        self.maps[dropout] = read_map(clone)
        shutil.rmtree(clone.root / "maps")

    def fresh(self) -> Clone:
        return self.start.copy(self.place / "home" / f"work{next(self.numbers)}")

    def undisturbed(self, dropout: float, edited: bool) -> dict[str, bytes]:
        """The outputs of one `dvc repro` without faults, with these params and this code."""
        if (dropout, edited) not in self.known:
            clone = self.fresh()
            set_dropout(clone, dropout)
            edit_code(clone, edited)
            clone.dvc("repro", *TARGETS)
            self.known[dropout, edited] = clone.outputs()
            self.draw_map(clone, dropout)
            shutil.rmtree(clone.root)
        return self.known[dropout, edited]


def set_dropout(clone: Clone, value: float) -> None:
    clone.change(lambda params: params["segment"]["network"].update(dropout=value))


def edit_code(clone: Clone, edited: bool) -> None:
    """A statement that changes the digests of the stages which reach this file, and no result."""
    file = clone.root / "src" / "weakseg" / "methods" / "cam.py"
    text = file.read_text().removesuffix("EDITED = 1\n")
    file.write_text(text + "EDITED = 1\n" * edited)


class Pipeline(RuleBasedStateMachine):
    """One workspace. Every rule kills what it starts at a drawn instant; :meth:`teardown` is the last `dvc repro`."""

    shop: Workshop

    @initialize()
    def begin(self) -> None:
        self.clone, self.dropout, self.edited, self.pushed = self.shop.fresh(), DROPOUTS[0], False, False
        self.faults: list[str] = []

    def count(self, ended: Ended, what: str) -> None:
        if ended.killed:
            tally.injected(f"kill of {what}")
            self.faults.append(what)

    def repro(self, instant: Instant) -> None:
        """DVC and its stage are killed together."""
        self.count(self.clone.dvc("repro", *TARGETS, kill=instant), "`dvc repro`")

    @rule(dropout=st.sampled_from(DROPOUTS), instant=INSTANTS)
    def edit_a_param(self, dropout: float, instant: Instant) -> None:
        self.dropout = dropout
        set_dropout(self.clone, dropout)
        self.repro(instant)

    @rule(instant=INSTANTS)
    def edit_a_code_file(self, instant: Instant) -> None:
        self.edited = not self.edited
        edit_code(self.clone, self.edited)
        self.repro(instant)

    @rule(instant=INSTANTS)
    def push(self, instant: Instant) -> None:
        self.count(self.clone.dvc("push", "-q", kill=instant), "`dvc push`")
        self.pushed = True

    @precondition(lambda self: self.pushed)
    @rule(instant=INSTANTS)
    def pull(self, instant: Instant) -> None:
        """Of what is lost here."""
        shutil.rmtree(self.clone.root / "out" / "tiles", ignore_errors=True)
        self.count(self.clone.dvc("pull", "-q", "tiles", kill=instant), "`dvc pull`")

    @rule(instant=INSTANTS)
    def run_a_stage_by_hand(self, instant: Instant) -> None:
        self.count(self.clone.stage("segment", "pixel", kill=instant), "a stage by hand")

    @rule(instant=INSTANTS, resume=st.booleans())
    def tune(self, instant: Instant, resume: bool) -> None:
        words = ["tune", "--study", "machine", *["--resume"] * resume]
        self.count(self.weakseg(words, instant), "`weakseg tune`")

    @rule(instant=INSTANTS)
    def predict(self, instant: Instant) -> None:
        self.count(self.weakseg(PREDICT, instant), "`weakseg predict`")

    @rule(instant=INSTANTS, back=st.booleans())
    def promote(self, instant: Instant, back: bool) -> None:
        words = ["rollback"] if back else ["promote", "pixel"]
        self.count(self.weakseg(words, instant), "`weakseg promote` and `rollback`")

    @rule(instant=INSTANTS)
    def import_data(self, instant: Instant) -> None:
        """Into a workspace inside, from the data of this one; what is there is whole."""
        words = ["--root", "more", "data", "import", "data/images", "data/labels", "--classes", "data/classes.yaml"]
        self.count(self.weakseg(words, instant), "`weakseg data import`")
        for folder in (self.clone.root / "more" / "data").glob("*"):
            if folder.is_dir() and not folder.name.startswith("."):
                assert len(list(folder.iterdir())) == len(list((self.clone.root / "data" / folder.name).iterdir()))

    @rule(instant=INSTANTS, count=st.integers(1, 400))
    def tag(self, instant: Instant, count: int) -> None:
        """Answers that were confirmed are in the file."""
        root, first = self.clone.root, next(self.shop.numbers) * 1000
        ended = self.clone.fork(lambda: answer_crops(root, first, count), instant)
        self.count(ended, "`weakseg tag`")
        file = root / "tagging" / "answers.jsonl"
        kept = [one.id for one in read_answers(file, ISPRS)]
        confirmed = [line for line in ended.said.split("\n")[:-1] if line.isdigit()]
        assert set(confirmed) <= set(kept)

    def weakseg(self, words: list[str], instant: Instant) -> Ended:
        return self.clone.fork(lambda: command(words), instant, **store_of(self.clone))

    def teardown(self) -> None:
        if not getattr(self, "faults", []):
            shutil.rmtree(self.clone.root)
            return
        self.clone.dvc("repro", *TARGETS)
        self.clone.fork(lambda: command(PREDICT))
        wanted = self.shop.undisturbed(self.dropout, self.edited)
        assert differing(wanted, self.clone.outputs()) == []
        assert read_map(self.clone) == self.shop.maps[self.dropout]
        left = [path for path in self.clone.root.rglob(".*.tmp*") if "out" in path.parts or "reports" in path.parts]
        assert left == []
        for what in self.faults:
            tally.survived(f"kill of {what}")
        shutil.rmtree(self.clone.root)


def read_map(clone: Clone) -> bytes:
    """The map without its digest of where and when the image was last written."""
    return re.sub(rb"[0-9a-f]{32}", b"", (clone.root / "maps" / "v1.tif").read_bytes())


def store_of(clone: Clone) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{clone.root}/mlflow.db"}


def answer_crops(root: Path, first: int, count: int) -> None:
    """Add answers one by one, and confirm each on standard output."""
    with AnswerFile(root / "tagging" / "answers.jsonl", ISPRS) as file:
        for number in range(first, first + count):
            said = (ISPRS.names[:1], ISPRS.names[1:2], ())
            file.add([TagAnswer(str(number), "t1", (0, 0, 16, 16), (64, 64), *said, "ann", now(), 1.0)])
            print(number, flush=True)


def command(words: list[str]) -> None:
    import sys

    from weakseg.cli import main

    sys.argv = ["weakseg", *words]
    main()


@pytest.fixture(scope="module")
def shop(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("shop"), finished)


@pytest.mark.faults
def test_after_kills_anywhere_the_last_repro_is_as_if_there_had_been_none(shop: Workshop) -> None:
    """WEAKSEG_FAULTS_EXAMPLES: how many workspaces, each with five or six things done to it."""
    chosen = settings(
        max_examples=int(os.environ.get("WEAKSEG_FAULTS_EXAMPLES", "4")),
        stateful_step_count=6,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(type("Killed", (Pipeline,), {"shop": shop}), settings=chosen)
