"""Throughput on a GPU: bf16 against float32, against segmentation-models-pytorch, and `fit` against a bare loop.

    WEAKSEG_WORKERS=8 PYTHONPATH=src python benchmarks/gpu.py --config dubai_gpu
    PYTHONPATH=src torchrun --standalone --nproc-per-node 1 benchmarks/gpu.py --config ... --only loop   # DDP over NCCL

``networks``: one training step (forward, backward, AdamW) and one inference batch, on data that is on the GPU already;
the smallest of five means over as many steps as fit into a second; one Markdown row per network, float32 (as torch does
it by default, convolutions in TF32) and bf16 in turn. ``loop``: the same bf16 training step of the config's network in
:func:`weakseg.training.fit.fit`, with crops that loader processes cut from random areas; the median of its reports.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.core.classes import ClassScheme
from weakseg.core.params import Params
from weakseg.data.areas import Area
from weakseg.data.crops.area_crops import StepDataset
from weakseg.pipeline.presets import load_preset
from weakseg.stages.single_stage import build as build_single_stage
from weakseg.training.fit import fit
from weakseg.training.machine import machine_from_environment
from weakseg.training.segment import build_pools, segmentation_step
from weakseg.training.segmenter import segmenter_of

SCHEME = ClassScheme(tuple("abcde"), tuple((20 * i, 0, 0) for i in range(5)))
AREAS, SIDE = 8, 1000  # of the random areas that the loop cuts its crops from
STEPS, REPORT = 200, 25


def mean_ms(run: Callable[[], object]) -> float:
    """Smallest of five mean times of a run."""
    for _ in range(5):
        run()
    synchronise()
    start = time.perf_counter()
    run()
    synchronise()
    count = max(3, int(1 / (time.perf_counter() - start)))
    means = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            run()
        synchronise()
        means.append((time.perf_counter() - start) / count)
    return 1000 * min(means)


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(net: nn.Module, batch: int, side: int, device: str) -> tuple[dict[str, float], dict[str, float], float]:
    """(ms of a training step, ms of inference) by precision, and GiB at the peak of training in bf16."""
    net = net.to(device, memory_format=torch.channels_last)
    images = torch.randn(batch, 3, side, side, device=device)
    masks = torch.randint(len(SCHEME), (batch, side, side), device=device)
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def logits(inputs: Tensor) -> Tensor:
        out = net(inputs)
        out = getattr(out, "logits", out)
        return F.interpolate(out.float(), inputs.shape[-2:], mode="bilinear", align_corners=False)

    def train() -> None:
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(logits(images), masks).backward()
        optimiser.step()

    trained, inferred = {}, {}
    for name, low in (("fp32", False), ("bf16", True)):
        with torch.autocast(device, dtype=torch.bfloat16, enabled=low):
            net.train()
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            trained[name] = mean_ms(train)
            peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else float("nan")
            net.eval()
            with torch.inference_mode():
                inferred[name] = mean_ms(lambda: logits(images))
    return trained, inferred, peak


def networks(params: Params, device: str) -> None:
    """One row per network of the config, and of the peer."""
    import segmentation_models_pytorch as smp

    segment, tags = params.segment, params.single_stage
    lite = segment.network.model_copy(update={"name": "unet", "encoder": "tf_efficientnet_lite0", "weights": "none"})
    single = tags.model_copy(update={"weights": "none"})
    peer = smp.Unet("vgg16_bn", encoder_weights=None, classes=len(SCHEME))
    batch, side = segment.optimiser.batch, segment.crop
    jobs: list[tuple[str, nn.Module, int, int]] = [
        (segment.network.name, segmenter_of(segment.network, len(SCHEME)), batch, side),
        ("smp.Unet, vgg16_bn", peer, batch, side),
        ("unet, Lite0", segmenter_of(lite, len(SCHEME)), batch, side),
        (f"single stage, {tags.backbone}", build_single_stage(single, SCHEME), tags.optimiser.batch, tags.crop),
    ]
    print("| network | batch | train fp32, ms | bf16 | times | Mpx/s | GiB | infer fp32, ms | bf16 | times | Mpx/s |")
    print("| --- " * 11 + "|")
    for name, net, count, size in jobs:
        trained, inferred, peak = measure(net, count, size, device)
        cells = [name, f"{count} x {size} px"]
        for ms in (trained, inferred):
            cells += [f"{ms['fp32']:.1f}", f"{ms['bf16']:.1f}", f"{ms['fp32'] / ms['bf16']:.2f}"]
            cells += [f"{count * size**2 / ms['bf16'] / 1000:.1f}"]
            cells += [f"{peak:.1f}"] if ms is trained else []
        print(f"| {' | '.join(cells)} |", flush=True)


def loop(params: Params) -> None:
    """Median ms of a step inside `fit`, loader, losses, running average and all."""
    machine = machine_from_environment()
    rng = np.random.default_rng(0)
    areas = [
        Area(
            rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
            np.repeat(np.repeat(rng.integers(0, len(SCHEME), (50, 50), dtype=np.uint8), 20, 0), 20, 1),
        )
        for _ in range(AREAS)
    ]
    plan = params.segment.optimiser.model_copy(update={"steps": STEPS, "report_every": REPORT})
    favour = params.segment.favour.model_copy(update={"class_name": SCHEME.names[0]})
    segment = params.segment.model_copy(update={"optimiser": plan, "favour": favour, "class_weights": {}})
    model = segmenter_of(segment.network.model_copy(update={"weights": "none"}), len(SCHEME))
    params = params.model_copy(update={"segment": segment})
    pools = build_pools("pixel", params, SCHEME, areas, [], 0)
    with tempfile.TemporaryDirectory() as folder:
        result = fit(
            model,
            segmentation_step("pixel", params, SCHEME, model.preprocessing, 0),
            parameter_groups=model.parameter_groups(plan.lr, weight_decay=plan.weight_decay),
            dataset=lambda rank, world: StepDataset(pools, seed=0, steps=STEPS, rank=rank, world=world),
            plan=plan,
            seed=0,
            machine=replace(machine, quiet=True),
            resume_file=Path(folder) / "resume.pt",
            identity="benchmark",
        )
    times = sorted(1000 * row["train/seconds_per_step"] for row in result.history[1:])
    if machine.is_main:
        print(
            f"fit, {segment.network.name}, {plan.batch} x {segment.crop} px, {machine.mixed_precision()}, "
            f"{machine.workers} loader processes, {machine.world} ranks: {times[len(times) // 2]:.1f} ms a step"
        )


def main() -> None:
    """Read the arguments and print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="preset or params file")
    parser.add_argument("--only", choices=["networks", "loop"])
    options = parser.parse_args()
    params = load_preset(options.config)
    if options.only != "loop":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        print(torch.cuda.get_device_name() if device == "cuda" else "CPU")
        networks(params, device)
    if options.only != "networks":
        loop(params)


if __name__ == "__main__":
    main()
