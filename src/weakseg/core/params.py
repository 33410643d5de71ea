"""params.yaml as frozen models: one section per stage; an unknown key or a wrong type raises with its path.

No field has a default: every value stands in params.yaml, and nowhere else. Machine facts (device, workers,
precision, tracking server) are flags or environment variables, never params. Layer 0: no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from weakseg.core.config import find_anchors, parse_yaml, set_value
from weakseg.core.errors import ParamsError
from weakseg.core.removed_params import find_removed

WeakSource = Literal["cam", "crf", "irnet", "single_stage", "teacher", "fused", "boxes"]
Source = Literal["pixel", "full", "cam", "crf", "irnet", "single_stage", "teacher", "fused", "boxes", "consistency"]
WEAK_SOURCES: tuple[WeakSource, ...] = get_args(WeakSource)
SOURCES: tuple[Source, ...] = get_args(Source)

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of all sections: frozen, strict about names and types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_become_tuples(cls, data: Any) -> Any:
        """YAML has lists only; strict validation wants the tuples that keep a section frozen."""
        if not isinstance(data, dict):
            return data
        return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


class Areas(Section):
    """The split, as lists of areas: N1 (pixels), N2 (tags) and validation."""

    pixel: tuple[str, ...] = Field(min_length=1)
    tags: tuple[str, ...]
    validation: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _disjoint(self) -> Areas:
        everything = [*self.pixel, *self.tags, *self.validation]
        twice = sorted({name for name in everything if everything.count(name) > 1})
        if twice:
            raise ValueError(f"areas named twice: {', '.join(twice)}")
        return self


class TilesParams(Section):
    """Resampling, split, hold-out and tag crops."""

    scale: Positive  # resampling of images and masks, 0.5 halves the side
    areas: Areas
    holdout: Annotated[float, Field(ge=0.0, le=0.5)]  # share of each N1 area, a block of whole tag columns
    tag_source: Literal["masks", "csv"]  # masks: derived here; csv: data/tags/tags.csv
    tag_size: Count  # side of a tag crop, px of the resampled area
    tag_min_share: Annotated[float, Field(ge=0.0, le=100.0)]  # percent of a crop below which a class gets no tag


class NetworkParams(Section):
    """Which segmentation network, with which weights."""

    name: Literal["encdec_unpool", "unet", "deeplabv3plus"]
    encoder: str  # timm name; ignored by encdec_unpool
    weights: str  # "none", "package" (offline Lite0), "torchvision", or a file
    width: Count  # channel divisor of encdec_unpool; 1 is the published size
    dropout: Share
    encoder_depth: int = Field(ge=3, le=5)  # unet: scales of the encoder in use
    decoder_channels: tuple[int, ...] = Field(min_length=3, max_length=5)  # unet; 1 or 2 fewer: logits at 1/2 or 1/4


class AugmentParams(Section):
    """Strength of the training augmentation; flips and quarter turns are always on."""

    scale: tuple[Positive, Positive]  # range of zoom factors
    colour: NotNegative  # gain, contrast and per-band jitter, as a share


class FavourParams(Section):
    """Car-favouring sampling (the published name) for any class; a class outside the scheme is an error."""

    class_name: str
    probability: Share  # share of crops centred on a pixel of that class


class OptimiserParams(Section):
    """AdamW with warm-up and cosine; the encoder learns at ``encoder_factor`` of the rate."""

    steps: Count
    batch: Count
    lr: Positive
    encoder_factor: Share
    weight_decay: NotNegative
    warmup: Share  # share of the steps
    ema: Annotated[float, Field(ge=0.0, lt=1.0)]  # decay of the averaged weights, 0 switches them off
    report_every: Count  # steps between hold-out evaluations, log rows and checkpoints


class ClassifierParams(Section):
    """Multi-label classifier on tag crops."""

    seed: int
    arch: Literal["vgg16_bn", "encoder"]
    encoder: str
    weights: str
    width: Count
    output_stride: Literal[8, 16, 32]
    pooling: Literal["gap", "gem"]
    crop: Count
    context: NotNegative  # halo around a tag crop at CAM time, as a share of its side
    missing_labels: Literal["keep", "drop_class", "confident_only", "ignore_uncertain"]
    drop_classes: tuple[str, ...]
    confidence: Share
    uncertain: tuple[Share, Share]
    optimiser: OptimiserParams
    augment: AugmentParams


class CamParams(Section):
    """Multi-scale class activation maps."""

    method: Literal["cam", "gradcam", "gradcampp"]
    scales: tuple[Positive, ...]
    flips: bool
    quarter_turns: bool
    label_source: Literal["given", "given_or_predicted"]
    normalise: Literal["per_class", "global"]
    lid_compat: bool


class CrfParams(Section):
    """Refinement of ScoreMaps by a dense CRF or PAMR."""

    refiner: Literal["crf", "pamr"]
    gaussian_sxy: Positive
    gaussian_weight: NotNegative
    bilateral_sxy: Positive
    bilateral_srgb: Positive
    bilateral_weight: NotNegative
    iterations: Count
    unary: Literal["soft", "confident"]


class IrnetParams(Section):
    """Boundary network and random walk."""

    seed: int
    preset: Literal["aerial", "irn_voc", "lid_compat"]  # the last two: pairs, losses, views and walk as published
    encoder: str  # frozen; resnet50 is the published one
    weights: str
    crop: Count  # px
    radius: Count  # aerial: training pairs lie closer than this, in grid cells of 4 px
    pairs_per_step: Count  # aerial: offsets drawn for each step; radius 5 has 34, radius 10 has 152
    label_score: Share  # a pixel is a confident label from this score of the crf stage on,
    label_margin: Share  # and this lead over the second class
    walk_steps: tuple[Annotated[int, Field(ge=0)], ...]  # candidates; the one in force is chosen inside N1
    anchors: tuple[Share, ...]  # candidates of the anchored walk's weight; 1 is no anchor
    max_drift: Positive  # octaves that a class may grow or shrink by before its area keeps the scores before the walk
    optimiser: OptimiserParams


class SingleStageParams(Section):
    """Single-stage segmentation from tags (Araslanov and Roth, CVPR 2020)."""

    seed: int
    backbone: str  # resnet38 or a timm encoder
    weights: str
    width: Count
    output_stride: Literal[8, 16]  # of a timm encoder's deep feature; resnet38 has 8
    dilate: bool  # False: the encoder's own feature of that stride; True: its last stages are dilated to it
    channels: Count
    crop: Count
    pretrain: Share  # share of the steps on classification only
    self_training: bool
    balance_tags: bool  # weigh presences by absences / presences of their class; published: false
    gate: Literal["strict", "none"]
    dilations: tuple[Count, ...]
    pamr_iterations: Annotated[int, Field(ge=0)]  # 0: masks are not refined
    sigma_floor: NotNegative
    aspp_rates: tuple[Count, ...]
    aspp_image_pool: bool
    scales: tuple[Positive, ...]
    normalise: Literal["per_class", "none"]  # of the scores, in each tag crop, as cam.normalise
    head_factor: Positive  # rate of the heads over the backbone's; published: 10, with SGD
    optimiser: OptimiserParams


class TeacherParams(Section):
    """The task (i) network on N2, constrained by the tags, in rounds."""

    rounds: Count


class FusedParams(Section):
    """Product of experts of the teacher and tag-trained ScoreMaps."""

    experts: tuple[Literal["cam", "crf", "irnet", "single_stage"], ...]
    weights: tuple[NotNegative, ...]  # candidates per expert, chosen on the hold-out


class BoxesParams(Section):
    """Bounding boxes: where they come from, and how they become ScoreMaps."""

    source: Literal["masks", "file"]  # masks: derived here, to study; file: data/boxes/boxes.json
    classes: tuple[str, ...]  # that have boxes; none: no boxes
    complete: tuple[str, ...]  # of these every object has a box wherever an area was searched for it
    min_pixels: Count  # source masks: smaller components get no box, only a region where the class may be
    constrain: bool  # write what complete boxes forbid into out/tiles/allowed, so that all sources know it
    refiner: Literal["crf", "none"]  # what of a box its class fills; none: all of it

    @model_validator(mode="after")
    def _known(self) -> BoxesParams:
        strays = [name for name in self.complete if name not in self.classes]
        if strays:
            raise ValueError(f"complete names {', '.join(strays)}, which boxes.classes does not")
        return self


class PseudoParams(Section):
    """ScoreMaps to pseudo-masks: the thresholds in force are chosen on the hold-out among these."""

    scores: tuple[Share, ...]
    margins: tuple[Share, ...]
    min_coverage: Share  # of all pixels, and of what a class wins where it has thresholds of its own; on the hold-out
    per_class: bool  # thresholds of its own for each class, else one pair for all


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


class StudentsParams(Section):
    """How weak crops enter the training of a segmentation network: of all sources but ``pixel`` and ``full``."""

    batch: Count  # crops of N2 per step, on top of those of N1
    start: Share  # share of the steps before what is guessed (pseudo-masks, consistency) counts; tags count from 0 on
    ramp: Share  # share of the steps over which either weight grows to full
    pseudo_weight: dict[str, NotNegative]  # per source of pseudo-masks; 1 where none is named


class SegmentParams(Section):
    """What the trainings of all sources of labels share."""

    seeds: tuple[int, ...] = Field(min_length=1)
    crop: Count
    network: NetworkParams
    optimiser: OptimiserParams
    augment: AugmentParams
    favour: FavourParams
    class_weights: dict[str, Positive]  # classes not named weigh 1
    selection: Literal["last", "holdout", "validation"]


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
    source: Source
    pixel: Count  # areas with pixel labels; beyond N1 they come from N2 areas that have masks
    tags: Share  # of the tag crops of N2
    boxes: Share  # of the N2 areas, each searched for the classes of the section boxes

    @model_validator(mode="after")
    def _bought(self) -> BudgetParams:
        if self.source == "full":
            raise ValueError("source full is not bought: raise pixel instead")
        return self


class LabelCostParams(Section):
    """`weakseg label-cost`: what labels cost an annotator, and the budgets to compare."""

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


class Params(Section):
    """All sections of params.yaml, and what `dvc repro` runs.

    Attributes:
        methods: weak-label methods that get pseudo-masks and an audit.
        sources: sources of labels that are trained on, evaluated and put into the table (dvc.yaml makes its stages from
            both). Never empty: where DVC finds nothing to make stages from, a stage's name means the whole pipeline.
    """

    methods: tuple[WeakSource, ...]
    sources: tuple[Source, ...] = Field(min_length=1)
    tiles: TilesParams
    classifier: ClassifierParams
    cam: CamParams
    crf: CrfParams
    irnet: IrnetParams
    single_stage: SingleStageParams
    teacher: TeacherParams
    fused: FusedParams
    boxes: BoxesParams
    pseudo: PseudoParams
    segment: SegmentParams
    students: StudentsParams
    consistency: ConsistencyParams
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
    text = path.read_text(encoding="utf-8")
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
            f"{origin}: {faults}", expected="the keys and types of `weakseg init --config demo`", cure="mend it"
        ) from error


def _fault(place: tuple[int | str, ...], message: str, value: object) -> str:
    found = repr(value)
    found = found if len(found) <= 60 else found[:57] + "..."
    return f"{'.'.join(str(part) for part in place) or 'the file'}: {message} (found {found})"
