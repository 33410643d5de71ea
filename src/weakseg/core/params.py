"""params.yaml as frozen models: one section per stage; an unknown key or a wrong type raises with its path.

No field has a default: every value stands in params.yaml, and nowhere else. Machine facts (device, workers,
precision, tracking server) are flags or environment variables, never params. Layer 0: no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from weakseg.core.config import find_anchors, load_text, parse_yaml, set_value
from weakseg.core.errors import ParamsError
from weakseg.core.methods import ORACLE, WEAK_SOURCES, MethodSections, Source, WeakSource
from weakseg.core.removed_params import find_removed
from weakseg.core.sections import AugmentParams, Count, NotNegative, OptimiserParams, Positive, Section, Share
from weakseg.core.tag_errors import check_rates


class Areas(Section):
    """The split, as lists of areas: N1 (pixels), N2 (tags) and validation."""

    pixel: tuple[str, ...] = Field(min_length=1)
    tags: tuple[str, ...]
    validation: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _disjoint(self) -> Areas:
        everything = [*self.pixel, *self.tags, *self.validation]
        twice = sorted(name for name, count in Counter(everything).items() if count > 1)
        if twice:
            raise ValueError(f"areas named twice: {', '.join(twice)}")
        return self


class TilesParams(Section):
    """Resampling, split, hold-out and tag crops."""

    scale: Positive  # resampling of images and masks, 0.5 halves the side
    areas: Areas
    holdout: Annotated[
        float, Field(ge=0.0, le=0.5)
    ]  # share of each N1 area, a block of whole tag columns; of images that are one crop each, so many of them
    tag_source: Literal["masks", "csv"]  # masks: derived here; csv: data/tags/tags.csv
    tag_size: Count  # side of a tag crop, px of the resampled area; an area that is not much larger is one crop
    tag_min_share: Annotated[float, Field(ge=0.0, le=100.0)]  # percent of a crop below which a class gets no tag


class TagsParams(Section):
    """Errors of N2's tags, for the trainings that read tags themselves (consistency, joint); 0: a hard constraint.

    :mod:`weakseg.core.tag_errors` has what follows from them.
    """

    missing_rate: Share  # of the classes that a crop holds the share that its tags do not name
    wrong_rate: Share  # of the classes that a crop does not hold the share that its tags name

    @model_validator(mode="after")
    def _say_something(self) -> TagsParams:
        try:
            check_rates(self.missing_rate, self.wrong_rate)
        except ParamsError as error:
            raise ValueError(str(error)) from error
        return self


class NetworkParams(Section):
    """Which segmentation network, with which weights."""

    name: Literal["encdec_unpool", "unet", "deeplabv3plus", "plain"]
    encoder: str  # timm name; ignored by encdec_unpool
    weights: str  # "none", "package" (offline: Lite0 to Lite2, VGG16), "torchvision", or a file
    width: Count  # channel divisor of encdec_unpool; 1 is the published size
    dropout: Share
    encoder_depth: int = Field(ge=3, le=5)  # unet: scales of the encoder in use
    decoder_channels: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        min_length=3, max_length=5
    )  # unet; 1 or 2 fewer: logits at 1/2 or 1/4


class FavourParams(Section):
    """Car-favouring sampling (the published name) for any class; a class outside the scheme is an error."""

    class_name: str
    probability: Share  # share of crops centred on a pixel of that class


class PseudoParams(Section):
    """ScoreMaps to pseudo-masks: the thresholds in force are chosen on the hold-out among these."""

    scores: tuple[Share, ...]
    margins: tuple[Share, ...]
    min_coverage: Share  # of all pixels, and of what a class wins where it has thresholds of its own; on the hold-out
    per_class: bool  # thresholds of its own for each class, else one pair for all
    all_of_n1: bool  # what never saw a pixel label is chosen on all of N1, four to five times the hold-out blocks


class ConsistencyParams(Section):
    """Weak-to-strong consistency with tags (FixMatch / UniMatch form): losses and targets."""

    weight: NotNegative
    tag_weight: NotNegative
    presence_weight: NotNegative
    share_weight: NotNegative  # mean class shares against those the tags let expect
    confidence: Share  # of the teacher, for the most confident class; rarer ones get less
    align: bool  # raise classes that get less than the share their tags let expect
    adaptive: bool  # per-class thresholds scaled by the class's own mean confidence
    cutmix: Share


class JointParams(Section):
    """Masks that a training on ``joint`` or ``untagged`` makes of its own averaged network."""

    make_masks: tuple[Share, ...]  # after these shares of the steps; none: consistency alone
    mask_weight: NotNegative  # of their loss, beside consistency.weight


class StudentsParams(Section):
    """How weak crops enter the training of a segmentation network: of all sources but ``pixel`` and ``full``."""

    batch: Count  # crops of N2 per step, on top of those of N1
    start: Share  # share of the steps before what is guessed (pseudo-masks, consistency) counts; tags count from 0 on
    ramp: Share  # share of the steps over which either weight grows to full
    pseudo_weight: dict[str, NotNegative]  # per source of pseudo-masks; 1 where none is named


class SegmentAugmentParams(AugmentParams):
    """Beside what every training does: bands left out, for rasters that lack heights or infrared."""

    drop_band: Share  # chance of each band that an image may lack (data/bands.yaml), per crop; 0 of three bands


class SegmentParams(Section):
    """What the trainings of all sources of labels share."""

    seeds: tuple[int, ...] = Field(min_length=1)
    crop: Count
    network: NetworkParams
    optimiser: OptimiserParams
    augment: SegmentAugmentParams
    favour: FavourParams
    class_weights: dict[str, Positive]  # classes not named weigh 1
    selection: Literal["last", "holdout", "validation"]
    refit: bool  # what is reported trains on all of N1, the hold-out too, after everything has been chosen on it

    @model_validator(mode="after")
    def _chosen_elsewhere(self) -> SegmentParams:
        if self.refit and self.selection == "holdout":
            raise ValueError("refit trains on the hold-out, so selection: holdout cannot choose on it: one of the two")
        return self


class EvaluateParams(Section):
    """Whole-scene inference on the validation areas."""

    window: Count
    overlap: Annotated[float, Field(ge=0.0, lt=1.0)]
    batch: Count
    views: bool
    batch_mean_tile: Count  # 200 px in the published protocol
    erosion: Annotated[int, Field(ge=0)]  # px, 3 is the ISPRS rule


class ReportParams(Section):
    """Bootstrap intervals of the table."""

    draws: Count
    seed: int


class Range(Section):
    """Values from ``low`` to ``high``, drawn evenly or, with ``log``, evenly in the logarithm."""

    low: float
    high: float
    log: bool

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 with log")
        return self


class TuneParams(Section):
    """The search inside N1; the brief's three are dropout, the favoured class's weight and its sampling probability."""

    source: Source
    trials: Count  # of the study, the untuned baseline included
    steps: Count  # of a trial's training; fewer than segment.optimiser.steps find a good region sooner
    seed: int
    objectives: Literal["miou", "miou_and_class"]  # the class is segment.favour.class_name
    allowance: NotNegative  # IoU that any other class may lose against the baseline
    pruner: Literal["median", "none"]  # of one objective
    startup: Count  # random trials before TPE, and finished ones before pruning
    space: dict[str, Range] = Field(min_length=1)  # by path, e.g. segment.network.dropout


class PromoteParams(Section):
    """Gates of the registry: what a model has to show before the alias moves to it."""

    model: str  # name in the registry
    min_gain: float  # lower bound of the mIoU gain over the champion (paired bootstrap)
    max_drop: NotNegative  # IoU that any class may lose
    allowance: dict[str, NotNegative]  # the same per class, where another limit holds


class BudgetParams(Section):
    """One point of the label-cost curve: what somebody has labelled, and how it is trained on."""

    name: str
    source: Source | Literal["auto"]  # auto: what the workspace trains, joint before consistency before masks
    pixel: Count  # areas with pixel labels; beyond N1 they come from N2 areas that have masks
    tags: Share  # of the tag crops of N2
    boxes: Share  # of the N2 areas, each searched for the classes of the section boxes

    @model_validator(mode="after")
    def _bought(self) -> BudgetParams:
        if self.source == ORACLE:
            raise ValueError(f"source {ORACLE} is not bought: raise pixel instead")
        return self


class LabelCostParams(Section):
    """`weakseg label-cost`: what labels cost where nobody has been timed, and the budgets to compare."""

    pixel_seconds_per_megapixel: Positive  # of the raw raster, every pixel given a class
    tag_seconds_per_class: Positive  # one yes or no about one class of one crop
    box_seconds: Positive  # one box
    budgets: tuple[BudgetParams, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _named_once(self) -> LabelCostParams:
        names = [budget.name for budget in self.budgets]
        if len(set(names)) != len(names):
            raise ValueError("two budgets have one name")
        return self


class Params(MethodSections):
    """All sections of params.yaml, and what `dvc repro` runs.

    Attributes:
        methods: weak-label methods that get pseudo-masks and an audit.
        sources: sources of labels that are trained on, evaluated and put into the table (dvc.yaml makes its stages from
            both). Never empty: where DVC finds nothing to make stages from, a stage's name means the whole pipeline.
    """

    methods: tuple[WeakSource, ...]
    sources: tuple[Source, ...] = Field(min_length=1)
    tiles: TilesParams
    tags: TagsParams
    pseudo: PseudoParams
    segment: SegmentParams
    students: StudentsParams
    consistency: ConsistencyParams
    joint: JointParams
    evaluate: EvaluateParams
    report: ReportParams
    tune: TuneParams
    promote: PromoteParams
    label_cost: LabelCostParams

    @model_validator(mode="after")
    def _sources_have_labels(self) -> Params:
        for source in self.sources:
            if source in WEAK_SOURCES and source not in self.methods:
                raise ValueError(f"sources names {source}, methods does not: it would have no pseudo-masks")
        for kind, names in (("method", self.methods), ("source", self.sources)):
            if len(set(names)) != len(names):
                raise ValueError(f"a {kind} is named twice")
        return self


def load_params(path: Path) -> Params:
    """Read and check a params file; every fault is named by its path in the file."""
    if not path.is_file():
        raise ParamsError(f"no file {path}", expected="a params.yaml", cure="run `weakseg init --config demo`")
    text = load_text(path, ParamsError)
    raw = parse_yaml(text, str(path), ParamsError)
    _refuse_old(raw, str(path))
    if "&" in text and (anchors := list(find_anchors(text))):
        raise ParamsError(
            f"{path}: sections share text through the anchor {anchors[0]}",
            expected="every section written out: `dvc exp run -S` ends the sharing without a word",
            cure="run `weakseg init` in the workspace, which writes them out",
        )
    return check_params(raw, str(path))


def _refuse_old(raw: object, origin: str) -> None:
    """A file of version 0.1 gets a sentence instead of a list of unknown keys."""
    if not isinstance(raw, dict):
        return
    segment = raw.get("segment")
    old = [f"segment.{name}" for name in ("weak", "consistency") if isinstance(segment, dict) and name in segment]
    old += ["sources with folders"] * isinstance(raw.get("sources"), dict)
    if old:
        raise ParamsError(
            f"{origin} has {', '.join(old)} as in version 0.1",
            expected="the sections students and consistency beside segment, and sources as a list of names",
            cure="run `weakseg init` in the workspace, which moves them",
        )
    if gone := list(find_removed(raw)):
        raise ParamsError(
            f"{origin} has {', '.join(gone)}, options that are gone",
            expected="the keys of `weakseg init --config demo`",
            cure="run `weakseg init` in the workspace, which takes them out",
        )


def with_changes(params: Params, changes: Mapping[str, Any]) -> Params:
    """A copy of ``params`` with other values at paths such as ``students.batch``, checked like the file itself."""
    raw = params.model_dump()
    for path, value in changes.items():
        set_value(raw, path, value)
    return check_params(raw, "changed params")


def check_params(raw: object, origin: str) -> Params:
    """The params that plain values are; ``origin`` names them in the error."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        faults = "; ".join(_fault(fault["loc"], fault["msg"], fault["input"]) for fault in error.errors())
        raise ParamsError(
            f"{origin}: {faults}", expected="the keys and types of `weakseg init --config demo`", cure=_cure(error)
        ) from error


def _cure(error: ValidationError) -> str:
    kinds = {fault["type"] for fault in error.errors()}
    if kinds == {"missing"}:
        return "run `weakseg init` in the workspace: it adds what is new"
    if "string_type" in kinds:
        return "mend it: a name that reads as a number, a date or nothing stands in quotes, such as '2_10'"
    return "mend it"


def _fault(place: tuple[int | str, ...], message: str, value: object) -> str:
    found = repr(value)
    found = found if len(found) <= 60 else found[:57] + "..."
    return f"{'.'.join(str(part) for part in place) or 'the file'}: {message} (found {found})"
