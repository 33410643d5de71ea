"""The registry of sources of labels: what each is called, what it gives N2, what it is made from, its settings.

A weak-label method is one row of :data:`TABLE` and one section of :class:`MethodSections`; whatever lists methods reads
these. The order is that of the tables. Layer 0: no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, model_validator

from weakseg.core.sections import AugmentParams, Count, NotNegative, OptimiserParams, Positive, Section, Share


@dataclass(frozen=True)
class Entry:
    """One source of labels.

    Attributes:
        name: of the source; of a method also its stage, its section and its folder of scores.
        gives: what a training on it knows of N2: ``nothing``, the hidden ``truth``, ``masks`` that a weak-label method
            makes (pseudo-masks, with an audit), the ``tags`` themselves, the ``images`` alone, or ``all``: tags, scores
            of the experts, and masks that it makes while it trains.
        words: for a reader who does not know the project.
        after: stages whose outputs the method's stage reads, beside tiles; ``segment@pixel`` is the task (i) network.
        label: in tables; "" is ``task (ii): <name>``.
    """

    name: str
    gives: Literal["nothing", "truth", "masks", "tags", "images", "all"]
    words: str
    after: tuple[str, ...] = ()
    label: str = ""


TASK_I: Final = "pixel"
ORACLE: Final = "full"
UNTAGGED: Final = "untagged"
_TEACHER: Final = f"segment@{TASK_I}"
TABLE: Final = (
    Entry(TASK_I, "nothing", "pixel labels of the N1 areas, nothing else", label="task (i): N1 pixels"),
    Entry(
        ORACLE,
        "truth",
        "pixel labels of N1 and N2: the mark that task (ii) is measured against",
        label="oracle: N1 + N2 pixels",
    ),
    Entry("cam", "masks", "class activation maps of a classifier that was trained on the tags", ("classifier",)),
    Entry("crf", "masks", "the same maps, refined along the colours of the image by a dense CRF", ("cam",)),
    Entry("irnet", "masks", "the refined maps, spread up to learnt boundaries by a random walk", ("crf",)),
    Entry("single_stage", "masks", "the masks of one network that was trained on the tags alone"),
    Entry("teacher", "masks", "the maps of the task (i) network, held to the tags", (_TEACHER,)),
    Entry("fused", "masks", "teacher, irnet and single stage multiplied", ("irnet", "single_stage", "teacher")),
    Entry(
        "boxes",
        "masks",
        "boxes around objects, filled along the colours of the image, over the maps of teacher",
        ("teacher",),
    ),
    Entry(
        "consistency",
        "tags",
        "no stored masks: the network has to agree with itself on tagged images, held to the tags",
        label="task (ii): consistency with tags",
    ),
    Entry(
        UNTAGGED,
        "images",
        "joint's training without any tag: what seeing the images of N2 brings by itself",
        (_TEACHER, "choice@untagged"),
        label="untagged: N1 pixels + N2 images",
    ),
    Entry(
        "joint",
        "all",
        "tags, masks and agreement with itself together; the masks are made again while it trains",
        ("irnet", "single_stage", "experts", _TEACHER, "choice@joint"),
        label="task (ii): joint",
    ),
)
ENTRIES: Final = {entry.name: entry for entry in TABLE}
SOURCES: Final = tuple(ENTRIES)
WEAK_SOURCES: Final = tuple(entry.name for entry in TABLE if entry.gives == "masks")
MAKES_MASKS: Final = ("images", "all")  # what a source gives whose training makes masks of its own
MASK_MAKERS: Final = tuple(entry.name for entry in TABLE if entry.gives in MAKES_MASKS)
SELF_TAUGHT: Final = ("tags", *MAKES_MASKS)  # what a source gives whose network also learns from its own average


def label_of(source: str) -> str:
    """A source in the words of the table."""
    entry = ENTRIES.get(source)
    return entry.label if entry and entry.label else f"task (ii): {source}"


_LEARNS: Final = ("all", "tags", "masks")  # what a source gives whose network learns from tags
BEST_FIRST: Final = (
    *(entry.name for entry in reversed(TABLE) if entry.gives in _LEARNS),
    *(entry.name for entry in TABLE if entry.gives == "images"),
    *(entry.name for entry in TABLE if entry.gives == "nothing"),
)
"""What makes most of tags first: joint, consistency, masks; then what saw images of N2 alone; then task (i).

The oracle is none of them: its guesses of N2 would be the hidden truth.
"""


def recipe_of(sources: Sequence[str]) -> str | None:
    """The source of these that makes most of tags: joint where it is there, then consistency, then masks; else None."""
    return next((name for name in BEST_FIRST if name in sources and ENTRIES[name].gives in _LEARNS), None)


def stages_before(name: str) -> tuple[str, ...]:
    """Stages that must run before the stage ``name``, in an order that serves; ``tiles`` before all is not named."""
    entry = ENTRIES.get(name)
    found = [stage for one in entry.after for stage in (*stages_before(one), one)] if entry else []
    return tuple(dict.fromkeys(found))


EXPERTS: Final = tuple(name for name in WEAK_SOURCES if name != "fused" and _TEACHER not in stages_before(name))

if TYPE_CHECKING:
    Source = str
    WeakSource = str
    Expert = str
else:  # names are checked where params are read
    Source = Literal[SOURCES]
    WeakSource = Literal[WEAK_SOURCES]
    Expert = Literal[EXPERTS]  # what learnt from tags without the task (i) network


CamMethod = Literal["cam", "gradcam", "gradcampp"]
CamNormalise = Literal["per_class", "global"]
LabelSource = Literal["given", "given_or_predicted"]
Pooling = Literal["gap", "gem"]
MissingLabels = Literal["keep", "drop_class", "confident_only", "ignore_uncertain"]
IrnetPreset = Literal["aerial", "irn_voc", "lid_compat"]
Gate = Literal["strict", "none"]
BoxRefiner = Literal["crf", "none"]


class ClassifierParams(Section):
    """Multi-label classifier on tag crops."""

    seed: int
    arch: Literal["vgg16_bn", "encoder"]
    encoder: str
    weights: str
    width: Count
    output_stride: Literal[8, 16, 32]
    pooling: Pooling  # gem: generalised mean of power 3
    crop: Count
    context: NotNegative  # halo around a tag crop at CAM time, as a share of its side
    missing_labels: MissingLabels
    drop_classes: tuple[str, ...]
    confidence: Share
    uncertain: tuple[Share, Share]
    optimiser: OptimiserParams
    augment: AugmentParams


class CamParams(Section):
    """Multi-scale class activation maps."""

    method: CamMethod
    scales: tuple[Positive, ...] = Field(min_length=1)  # of the image's side; every view is made at each of them
    flips: bool  # add the mirrored view
    quarter_turns: bool  # add the turns by 90, 180 and 270 degrees (of both, if both)
    label_source: LabelSource
    normalise: CamNormalise  # each class by its own maximum, or all by one
    lid_compat: bool  # the merge of NoPeopleAllowed as released, whatever stands above


class CrfParams(Section):
    """Refinement of ScoreMaps by a dense CRF or PAMR."""

    refiner: Literal["crf", "pamr", "best"]  # best: each class takes one of both, or none, by what N1 says
    gaussian_sxy: Positive  # px, width of the smoothness kernel
    gaussian_weight: NotNegative
    bilateral_sxy: Positive  # px, and
    bilateral_srgb: Positive  # grey levels of 255: widths of the bilateral kernel
    bilateral_weight: NotNegative
    iterations: Count  # mean-field steps
    unary: Literal["soft", "confident"]  # -log of the scores, or confident labels and unsure pixels


class IrnetParams(Section):
    """Boundary network and random walk."""

    seed: int
    preset: IrnetPreset  # the last two: pairs, losses, views and walk as published
    encoder: str  # frozen; resnet50 is the published one
    weights: str
    crop: Count  # px
    radius: Annotated[int, Field(ge=2)]  # aerial: training pairs lie closer than this, in grid cells of 4 px
    pairs_per_step: Count  # aerial: offsets drawn for each step; radius 5 has 34, radius 10 has 152
    label_score: Share  # a pixel is a confident label from this score of the crf stage on,
    label_margin: Share  # and this lead over the second class
    walk_steps: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1
    )  # aerial: candidates; the one in force is chosen inside N1
    anchors: tuple[Share, ...] = Field(min_length=1)  # aerial: candidates of the anchored walk's weight; 1 is no anchor
    classes: Literal["all", "best"]  # that walk; best: those that do not lose by it on N1 (aerial alone)
    max_drift: (
        Positive  # aerial: octaves that a class may grow or shrink by before its area keeps the scores before the walk
    )
    optimiser: OptimiserParams


class SingleStageParams(Section):
    """Single-stage segmentation from tags (Araslanov and Roth, CVPR 2020)."""

    seed: int
    backbone: str  # resnet38 or a timm encoder
    weights: str
    width: Count
    output_stride: Literal[8, 16]  # of a timm encoder's deep feature; resnet38 has 8
    dilate: bool  # False: the encoder's own feature of that stride; True: its last stages are dilated to it
    channels: Annotated[int, Field(ge=8, multiple_of=8)]  # of the decoder; published: 256
    crop: Count
    pretrain: Share  # share of the steps on classification only
    self_training: bool
    balance_tags: bool  # weigh presences by absences / presences of their class; published: false
    gate: Gate  # strict: an image of which a tagged class owns no pixel does not train
    dilations: tuple[Count, ...]
    pamr_iterations: Annotated[int, Field(ge=0)]  # 0: masks are not refined
    sigma_floor: NotNegative
    aspp_rates: tuple[Count, Count, Count]  # dilations on the deep grid; published: 12, 24, 36
    aspp_image_pool: bool  # a branch that sees the whole crop
    scales: tuple[Positive, ...]
    normalise: Literal["per_class", "none"]  # of the scores, in each tag crop, as cam.normalise
    head_factor: Positive  # rate of the heads over the backbone's; published: 10, with SGD
    optimiser: OptimiserParams


class TeacherParams(Section):
    """The task (i) network on N2, constrained by the tags, in rounds."""

    rounds: Count


class FusedParams(Section):
    """Product of experts of the teacher and tag-trained ScoreMaps."""

    experts: tuple[Expert, ...]
    weights: tuple[NotNegative, ...]  # candidates per expert, chosen on the hold-out


class BoxesParams(Section):
    """Bounding boxes: where they come from, and how they become ScoreMaps."""

    source: Literal["masks", "file"]  # masks: derived here, to study; file: data/boxes/boxes.json
    classes: tuple[str, ...]  # that have boxes; none: no boxes
    complete: tuple[str, ...]  # of these every object has a box wherever an area was searched for it
    min_pixels: Count  # source masks: smaller components get no box, only a region where the class may be
    constrain: bool  # write what complete boxes forbid into out/tiles/allowed, so that all sources know it
    refiner: BoxRefiner  # what of a box its class fills; none: all of it

    @model_validator(mode="after")
    def _known(self) -> BoxesParams:
        strays = [name for name in self.complete if name not in self.classes]
        if strays:
            raise ValueError(f"complete names {', '.join(strays)}, which boxes.classes does not")
        return self


class MethodSections(Section):
    """The sections of the weak-label methods; ``classifier`` serves ``cam``."""

    classifier: ClassifierParams
    cam: CamParams
    crf: CrfParams
    irnet: IrnetParams
    single_stage: SingleStageParams
    teacher: TeacherParams
    fused: FusedParams
    boxes: BoxesParams
