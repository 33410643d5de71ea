"""PAMR against direct transcriptions of its formula: time, peak memory and equality, one markdown row per size.

    PYTHONPATH=src python benchmarks/pamr.py
    PYTHONPATH=src python benchmarks/pamr.py --device cuda --sizes 16x21x81

Three transcriptions, all holding the 48 shifted copies of the masks at once: ``unfold`` gathers them with dilated
unfolds, ``kernels`` with fixed one-hot 3x3 convolutions, the form of the authors' code, ``stack`` by stacking slices.
"faster" and "less memory" compare with the best of them. Times are the smallest of interleaved repeats on one thread.
Memory is the rise of the peak over the inputs: on the CPU of a fresh process, which first ran a tiny input; on a GPU of
torch's allocator. Exits with 1 if results differ by more than 1e-5.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from weakseg.methods.pamr import DILATIONS, ITERATIONS, pamr

Size = tuple[int, int, int]  # batch, channels of the masks, side
RING = [0, 1, 2, 3, 5, 6, 7, 8]
TOLERANCE = 1e-5


def shifted_by_unfold(x: Tensor, dilation: int) -> Tensor:
    """(B, C, H, W) -> (B, C, 9, H, W): the 3x3 grid of every pixel."""
    batch, channels, height, width = x.shape
    padded = F.pad(x, [dilation] * 4, mode="replicate")
    return F.unfold(padded, 3, dilation=dilation).view(batch, channels, 9, height, width)


def shifted_by_kernels(x: Tensor, dilation: int) -> Tensor:
    """The same, by nine one-hot kernels per channel."""
    batch, channels, height, width = x.shape
    padded = F.pad(x, [dilation] * 4, mode="replicate").view(batch * channels, 1, height + 2 * dilation, -1)
    kernels = torch.eye(9, dtype=x.dtype, device=x.device).view(9, 1, 3, 3)
    return F.conv2d(padded, kernels, dilation=dilation).view(batch, channels, 9, height, width)


def shifted_by_stack(x: Tensor, dilation: int) -> Tensor:
    """The same, by nine slices."""
    height, width = x.shape[-2:]
    padded = F.pad(x, [dilation] * 4, mode="replicate")
    steps = [(dilation * y, dilation * z) for y in range(3) for z in range(3)]
    return torch.stack([padded[:, :, y : y + height, z : z + width] for y, z in steps], dim=2)


def transcription(image: Tensor, masks: Tensor, shifted: Callable[[Tensor, int], Tensor]) -> Tensor:
    """The formula as it stands: all neighbours side by side, then a softmax and weighted sums."""
    grids = [shifted(image, dilation) for dilation in DILATIONS]
    sigma = torch.cat(grids, dim=2).std(dim=2, keepdim=True)
    ring = torch.cat([grid[:, :, RING] for grid in grids], dim=2)
    logits = -(ring - image.unsqueeze(2)).abs() / (1e-8 + 0.1 * sigma)
    weights = logits.mean(dim=1, keepdim=True).softmax(dim=2)
    for _ in range(ITERATIONS):
        neighbours = torch.cat([shifted(masks, dilation)[:, :, RING] for dilation in DILATIONS], dim=2)
        masks = (neighbours * weights).sum(dim=2)
    return masks


def by_unfold(image: Tensor, masks: Tensor) -> Tensor:
    """Dilated unfolds."""
    return transcription(image, masks, shifted_by_unfold)


def by_kernels(image: Tensor, masks: Tensor) -> Tensor:
    """Fixed kernels."""
    return transcription(image, masks, shifted_by_kernels)


def by_stack(image: Tensor, masks: Tensor) -> Tensor:
    """Stacked slices."""
    return transcription(image, masks, shifted_by_stack)


CONTESTANTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "weakseg": pamr,
    "unfold": by_unfold,
    "kernels": by_kernels,
    "stack": by_stack,
}
PEERS = [name for name in CONTESTANTS if name != "weakseg"]


def inputs(size: Size, device: str) -> tuple[Tensor, Tensor]:
    """A smooth random image in [0, 1] and softmax masks."""
    batch, channels, side = size
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, max(2, side // 8), max(2, side // 8), generator=generator)
    image = F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=True)
    image = (image + 0.05 * torch.rand(image.shape, generator=generator)) / 1.05
    masks = torch.randn(batch, channels, side, side, generator=generator).softmax(dim=1)
    return image.to(device), masks.to(device)


def seconds(run: Callable[[Tensor, Tensor], Tensor], image: Tensor, masks: Tensor) -> float:
    """Wall time of one run."""
    if image.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    run(image, masks)
    if image.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure_times(size: Size, device: str, repeats: int) -> dict[str, float]:
    """Smallest time of each contestant; every repeat runs them one after the other, after one run to warm up."""
    image, masks = inputs(size, device)
    best = dict.fromkeys(CONTESTANTS, float("inf"))
    for repeat in range(repeats + 1):
        for name, run in CONTESTANTS.items():
            spent = seconds(run, image, masks)
            if repeat:
                best[name] = min(best[name], spent)
    return best


def measure_difference(size: Size, device: str) -> float:
    """Largest absolute difference to the transcriptions."""
    image, masks = inputs(size, device)
    ours = pamr(image, masks)
    return max(float((ours - run(image, masks)).abs().max()) for run in (by_unfold, by_kernels, by_stack))


def measure_peak(name: str, size: Size, device: str) -> float:
    """MiB that one run adds to the peak of this process or of the GPU."""
    run = CONTESTANTS[name]
    run(*inputs((1, 2, 8), device))
    image, masks = inputs(size, device)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(image, masks)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(image, masks)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10


def peak_in_fresh_process(name: str, size: Size, device: str) -> float:
    """As :func:`measure_peak`, in a process of its own."""
    text = "x".join(map(str, size))
    command = [sys.executable, __file__, "--peak", name, "--sizes", text, "--device", device]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def parse_size(text: str) -> Size:
    """``4x21x81`` -> (4, 21, 81)."""
    batch, channels, side = map(int, text.split("x"))
    return batch, channels, side


def main() -> int:
    """Print the table; 1 if a result differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", nargs="+", type=parse_size, default=[(4, 21, 81), (8, 5, 64), (1, 5, 256), (1, 2, 16)]
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak", choices=list(CONTESTANTS), help="print the peak of one contestant alone, in MiB")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(measure_peak(arguments.peak, arguments.sizes[0], arguments.device))
        return 0
    print(f"torch {torch.__version__}, {arguments.device}, {len(DILATIONS)} dilations, {ITERATIONS} iterations\n")
    columns = [f"{name} ms, MiB" for name in CONTESTANTS]
    print(f"| batch x classes x side | {' | '.join(columns)} | faster | less memory | diff |")
    print("|" + " --- |" * 8)
    # Peaks before times: a process starts with its parent's ru_maxrss, so the parent must still be small.
    all_peaks = [
        {name: peak_in_fresh_process(name, s, arguments.device) for name in CONTESTANTS} for s in arguments.sizes
    ]
    worst = 0.0
    for size, peaks in zip(arguments.sizes, all_peaks, strict=True):
        difference = measure_difference(size, arguments.device)
        times = measure_times(size, arguments.device, arguments.repeats)
        cells = [f"{times[name] * 1e3:.3g}, {peaks[name]:.0f}" for name in CONTESTANTS]
        faster = min(times[name] for name in PEERS) / times["weakseg"]
        less = min(peaks[name] for name in PEERS) / max(peaks["weakseg"], 0.1)
        name = "x".join(map(str, size))
        print(f"| {name} | {' | '.join(cells)} | {faster:.1f}x | {less:.1f}x | {difference:.0e} |", flush=True)
        worst = max(worst, difference)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
