"""One report of several runs of one pipeline that differ in their seeds alone (pipeline seeds)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from weakseg.core.errors import StageError
from weakseg.evaluation.metrics import average_scores, over_seeds
from weakseg.evaluation.reports import AuditReport, EvaluationReport, order_among


def pool_evaluations(reports: Sequence[EvaluationReport], what: str) -> EvaluationReport:
    """The report that one run over all the seeds would have given: matrices summed, scores averaged over the seeds.

    Args:
        reports: of one source, in the order of their seeds, each over the same validation areas.
        what: they are of, for the message.

    Returns:
        Without ``objects``, whose IoU does not follow from those of the runs.

    Raises:
        StageError: a seed stands in two of them, or they were evaluated on other areas or classes, or trained for
            another number of steps, or chosen in another way.
    """
    first = reports[0]
    for name in ("validation_data", "selection", "steps"):
        found = {str(getattr(report, name)) for report in reports}
        if len(found) > 1:
            raise StageError(
                f"{what}: {name} {' and '.join(sorted(found))}",
                expected="runs that differ in their seeds alone",
                cure="make them again with the same params and data",
            )
    if twice := [seed for seed, count in Counter(s for r in reports for s in r.seeds).items() if count > 1]:
        raise StageError(f"{what}: {twice[0]} in two runs", expected="each seed once", cure="leave one of them out")
    aligned = [report.aligned_to(first.classes, what) for report in reports]
    seeds = {name: scores for report in aligned for name, scores in report.seeds.items()}
    areas = {name: {"confusion": sum(r.confusions[name] for r in aligned)} for name in first.areas}
    return EvaluationReport.model_validate(
        {
            **average_scores([scores.model_dump() for scores in seeds.values()]),
            "classes": first.classes,
            "areas": areas,
            "seeds": {name: scores.model_dump() for name, scores in seeds.items()},
            "miou_over_seeds": over_seeds([scores.miou for scores in seeds.values()]),
            "selection": first.selection,
            "steps": first.steps,
            "validation_data": first.validation_data,
        }
    )


def average_audits(audits: Sequence[AuditReport], what: str) -> AuditReport:
    """Coverage, accuracy and IoU of one method's masks, averaged over the runs.

    Raises:
        StageError: they have other classes.
    """
    for audit in audits:
        order_among(list(audit.iou), list(audits[0].iou), what)
    scores = [audit.model_dump(include={"miou", "iou", "accuracy", "coverage"}) for audit in audits]
    return AuditReport.model_validate(average_scores(scores))
