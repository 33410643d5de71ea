"""timm and torchvision come without torch's compiler, and do with it what they always did once they are asked."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from weakseg.networks import build
from weakseg.networks.build import build_segmenter

CODE = """
import sys
import torch
from weakseg.networks.build import build_encoder, build_segmenter
from weakseg.networks.timm_import import import_timm
timm = import_timm()
import segmentation_models_pytorch
assert timm.__name__ == "timm" and "torchvision" in sys.modules
encoder = build_encoder("tf_efficientnet_lite0", weights="none").eval()
assert encoder(torch.zeros(1, 3, 32, 32))[0].shape == (1, 16, 16, 16)
segmenter = build_segmenter("unet", 5, encoder="tf_efficientnet_lite0", weights="none", width=1, dropout=0.1).eval()
assert segmenter(torch.zeros(1, 3, 64, 64)).shape == (1, 5, 64, 64)
assert not {"sympy", "torch._dynamo", "torch._dynamo.utils"} & set(sys.modules)
import torchvision
pooled = torchvision.ops.roi_align(torch.ones(1, 3, 8, 8), [torch.tensor([[0, 0, 4.0, 4.0]])], 2)
assert pooled.shape == (1, 3, 2, 2) and (pooled == 1).all()
from torchvision.ops.roi_align import is_compile_supported
from torch._dynamo.utils import is_compile_supported as real
assert is_compile_supported("cpu") == real("cpu")
assert torch._dynamo.is_compiling() is False
from timm.models.naflexvit import NaFlexVit
assert torch.compiler.disable.__module__ == "torch.compiler"
torch.compile(torch.nn.Linear(2, 2), backend="eager")(torch.zeros(1, 2))
print("fine")
"""


def test_the_compiler_waits_until_it_is_asked() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize("name", ["unet", "deeplabv3plus"])
def test_networks_start_from_the_same_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out on ``meta`` draws nothing: weights and the generator afterwards are those of smp alone."""

    def make() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        torch.manual_seed(3)
        net = build_segmenter(name, 5, encoder="tf_efficientnet_lite0", weights="none", width=1, dropout=0.1)
        return net.state_dict(), torch.rand(4)

    ours, after = make()
    monkeypatch.setattr(build, "NothingDrawnOnMeta", nullcontext)
    plain, after_plain = make()
    assert ours.keys() == plain.keys()
    assert all(torch.equal(ours[key], plain[key]) for key in ours)
    assert torch.equal(after, after_plain)
