"""Which library runs a network on a CPU: OpenVINO, ONNX Runtime or torch, checked on the raster's own windows.

``auto`` takes the first that is installed, worth its start and equal: OpenVINO, ONNX Runtime, torch. Equal means that
on a few windows of the raster no probability in float32 differs by more than 1e-5 from torch's; in bf16 the class is
that of torch in float32 on 97 % of the pixels. Starting an engine costs one to two seconds, which rasters of less than
8 Mpx (times views) do not give back, so they stay with torch. On GPUs there is torch only. Where ``precision`` found
bf16 to be no worse on the hold-out, OpenVINO in bf16 comes first.

What OpenVINO does unasked is asked here (tests/inference/test_engine.py): bf16 is its silent default where the
processor has it, so the precision is always stated; its cache folder serves old weights when only a weights file
changes, so there is none; it may share memory with its caller, so inputs and outputs are copies; it changes where
signals are handled, so that is put back. A network of free sides costs it half as much time again as one of known
sides, so it is made anew for each size of window, and with them the decoder's upsampling goes into its convolutions
(``upsampling``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor

from weakseg.core.errors import ParamsError, WeightsError
from weakseg.inference.encode import best_class
from weakseg.inference.onnx_file import run_session
from weakseg.inference.signal_stack import keep_signal_stack
from weakseg.inference.upsampling import fold_upsampling

Engine = Literal["openvino", "onnx", "torch"]
Wanted = Literal["auto", "openvino", "onnx", "torch"]
Precision = Literal["float32", "bf16"]
Run = Callable[[Tensor, bool], Sequence[Tensor]]
"""Normalised images, and whether to give the index -> probabilities (B, C, h, w) and, second, that (B, 1, h, w)."""
Plain = Callable[[Tensor], Sequence[Tensor]]
ToOnnx = Callable[[bool], bytes]
"""Whether to give the index -> the network as ONNX."""

WORTH: Final = 1 << 23  # px through the network, from which on an engine gives back what its start costs
EXACT: Final = 1e-5  # of a probability, float32
ALIKE: Final = 0.97  # of the pixels have the same class, bf16
SIZES: Final = 4  # of windows, that OpenVINO's network is made for; those that come later share a slower one
_PACKAGES: Final = {"openvino": "openvino", "onnx": "onnxruntime"}
_EXTRAS: Final = {"openvino": "openvino", "onnx": "export"}


@dataclass(frozen=True)
class Choice:
    """What runs a network, and how it compared.

    Attributes:
        difference: largest of a probability to torch (an exported file: to ONNX Runtime) in float32.
        same: share of pixels of the same class, in [0, 1].
        windows: that were compared; 0 where nothing was.
        passed_over: engines that were tried first, each with what was wrong.
        why: of the precision, where it was chosen here.
    """

    engine: Engine
    precision: str
    difference: float = 0.0
    same: float = 1.0
    windows: int = 0
    passed_over: tuple[str, ...] = ()
    why: str = ""

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"

    @property
    def parity(self) -> str:
        """The comparison in words; "" where there was none."""
        return f"{self.difference:.1e} at most, {self.same:.3%} same class, {self.windows} windows" * bool(self.windows)

    @property
    def equal(self) -> bool:
        """Whether it counts as the same network."""
        return self.difference <= EXACT if self.precision == "float32" else self.same >= ALIKE


class Runner:
    """A network under the engine that suits a raster: its own until :meth:`settle` has seen some windows.

    Args:
        own: engine of ``run``, which gives what is expected; ``exact`` is the same in float32.
        to_onnx: the network as ONNX; None where it cannot be had, or need not be: on a GPU.
        precision: of ``run``, and of what runs in the end.
        faster: a precision that OpenVINO is tried in before that one; "" for none.
        why: of these two, in words, where they were chosen for the user.
        passes: forward passes per window, in windows: views times squares of scales.
    """

    def __init__(
        self,
        own: Engine,
        run: Run,
        *,
        exact: Run | None = None,
        to_onnx: ToOnnx | None = None,
        wanted: Wanted = "auto",
        precision: str = "float32",
        faster: str = "",
        why: str = "",
        threads: int = 1,
        passes: float = 1.0,
    ) -> None:
        self._own, self._precision = Choice(own, precision, why="" if faster else why), precision
        self._faster, self._why = faster, why
        self._own_run, self._exact, self._to_onnx = run, exact or run, to_onnx
        self._threads, self._passes = threads, passes
        self._built: dict[tuple[str, str, bool], Plain] = {}
        self._run, self.choice = run, self._own
        self._candidates = self._among(wanted)
        self._wanted: Wanted = wanted

    def __call__(self, images: Tensor, index: bool) -> Sequence[Tensor]:
        """Run the network under the engine of the last :meth:`settle`."""
        return self._run(images, index)

    def settle(self, pixels: float, windows: Callable[[], Tensor], index: bool = False) -> Choice:
        """Choose the engine for a raster; those that lost hold no memory from then on.

        Args:
            pixels: through the network in one pass over the raster.
            windows: gives a few of its windows, normalised (B, K, h, w); asked only where there is a choice.
            index: whether the raster will be run with the index, so that no other network is started to compare.

        Raises:
            WeightsError: the engine that was asked for by name gives other maps.
        """
        self._run, self.choice = self._own_run, self._own
        if not self._candidates:
            return self.choice
        if self._wanted == "auto" and pixels * self._passes < WORTH:
            why = (
                f"{self._precision}: {self._faster} is worth its start from {WORTH / 1e6:.0f} Mpx on"
                if self._faster
                else ""
            )
            self.choice = replace(self._own, why=why or self._own.why)
            return self.choice
        images = windows()
        if len(images):  # else there is nothing to compare on, nothing to predict
            self.choice = self._compare(images, index)
        chosen = (self.choice.engine, self.choice.precision)
        if self.choice.engine != self._own.engine:
            self._run = partial(self._through, *chosen)
        self._built = {key: plain for key, plain in self._built.items() if key[:2] == chosen}
        return self.choice

    def _compare(self, images: Tensor, index: bool) -> Choice:
        """The first engine that is equal on some windows."""
        wrong: list[str] = []
        with torch.inference_mode():
            expected = self._exact(images, False)[0]
        for engine, precision in self._candidates:
            found, reason = self._tried(engine, precision, images, expected, index)
            if found is not None and found.equal:
                return replace(found, passed_over=tuple(wrong))
            named = f"{engine} {precision}" if precision != self._precision else engine
            wrong.append(f"{named}: {reason}")
        if self._wanted != "auto":
            raise WeightsError(
                f"{'; '.join(wrong)}, on {len(images)} windows of this raster",
                expected=f"torch's maps (float32: within {EXACT:g}; bf16: the same class on {ALIKE:.0%} of the pixels)",
                cure="take --engine torch or another --precision",
            )
        return replace(self._own, passed_over=tuple(wrong))

    def _among(self, wanted: Wanted) -> tuple[tuple[Engine, str], ...]:
        """Engines and precisions to try beside the network's own, best first."""
        if wanted not in get_args(Wanted):
            raise ParamsError(f"engine {wanted}", expected=" | ".join(get_args(Wanted)), cure="name one of them")
        usable: list[Engine] = ["openvino"] if self._to_onnx else []
        quick: list[tuple[Engine, str]] = [("openvino", self._faster)] if self._to_onnx and self._faster else []
        if self._to_onnx and self._own.engine == "torch" and self._precision == "float32":
            usable.append("onnx")  # which has no bf16 on CPUs
        if wanted == "auto":
            plain = [(one, self._precision) for one in usable if self._precision in get_args(Precision)]
            return tuple(pair for pair in [*quick, *plain] if find_spec(_PACKAGES[pair[0]]))
        if wanted == self._own.engine:
            return ()
        if wanted not in usable or self._precision not in get_args(Precision):
            raise ParamsError(
                f"engine {wanted} in {self._precision}",
                expected=f"{self._own.engine}" + "".join(f", {one}" for one in usable) + " for this model and device",
                cure="take --engine auto, or another --precision",
            )
        if not find_spec(_PACKAGES[wanted]):
            extra = _EXTRAS[wanted]
            raise ParamsError(
                f"no {_PACKAGES[wanted]}", expected=f"the extra {extra}", cure=f"install weakseg[{extra}]"
            )
        return (*(pair for pair in quick if pair[0] == wanted), (wanted, self._precision))

    def _tried(
        self, engine: Engine, precision: str, images: Tensor, expected: Tensor, index: bool
    ) -> tuple[Choice | None, str]:
        """How an engine compares, or None, and what is wrong with it."""
        try:
            found = self._plain(engine, precision, index)(images)[0]
        except (RuntimeError, ValueError) as error:
            return None, " ".join(str(error).split())[:120]
        if found.shape != expected.shape:
            return None, f"maps of {tuple(found.shape)}, expected {tuple(expected.shape)}"
        difference = float((found - expected).abs().max())
        winners = [best_class(maps.transpose(0, 1).numpy()) for maps in (found, expected)]  # argmax(1) takes 44 ms each
        same = float((winners[0] == winners[1]).mean())
        choice = Choice(engine, precision, difference, same, len(images), why=self._why)
        return choice, f"differs by {difference:.1e}, {same:.3%} same class"

    def _through(self, engine: Engine, precision: str, images: Tensor, index: bool) -> Sequence[Tensor]:
        return self._plain(engine, precision, index)(images)

    def _plain(self, engine: Engine, precision: str, index: bool) -> Plain:
        key = (engine, precision, index)
        if key not in self._built:
            assert self._to_onnx is not None
            open_engine = open_openvino if engine == "openvino" else open_onnxruntime
            self._built[key] = open_engine(self._to_onnx(index), precision, self._threads)
        return self._built[key]


def open_openvino(model: bytes, precision: str, threads: int) -> Plain:
    """An ONNX model under OpenVINO on the CPU: normalised images (B, K, h, w) -> its outputs, float32.

    Raises:
        RuntimeError: it does not load, or this processor has no bf16 where that is asked for.
    """
    import openvino

    core = openvino.Core()
    with keep_signal_stack():  # asking loads the plugin
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in able:
        raise RuntimeError("this processor has no bf16")
    network, settings = core.read_model(model), openvino_settings(precision, threads)
    free = list(network.inputs[0].partial_shape)
    compiled: dict[tuple[int, ...], Any] = {}

    def request_for(shape: tuple[int, ...]) -> Any:
        """Of one image of this size; of any number and size where there are too many sizes to make one for each."""
        key = shape if shape in compiled or len(compiled) < SIZES else ()
        if key not in compiled:
            sized = network.clone()
            sized.reshape([1, *shape] if key else free)
            fold_upsampling(sized)
            compiled[key] = core.compile_model(sized, "CPU", settings).create_infer_request()
        return compiled[key]

    def run(images: Tensor) -> list[Tensor]:
        request = request_for(tuple(images.shape[1:]))
        outputs: list[list[Tensor]] = []
        for image in torch.split(images, 1):
            found = request.infer({"image": image.contiguous().numpy()}, share_inputs=False, share_outputs=True)
            outputs.append([torch.from_numpy(value.copy()) for value in found.to_tuple()])
        return outputs[0] if len(outputs) == 1 else [torch.cat(parts) for parts in zip(*outputs, strict=True)]

    return run


def openvino_settings(precision: str, threads: int) -> Mapping[str, Any]:
    """What is said to OpenVINO: the precision (else bf16, unasked), no cache folder, and not to hold on to cores."""
    return {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bf16": "bf16"}[precision],
        "CACHE_DIR": "",
        "INFERENCE_NUM_THREADS": max(1, threads),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }


def open_onnxruntime(model: bytes | str, precision: str, threads: int) -> Plain:
    """The same under ONNX Runtime; float32 whatever ``precision`` says."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, threads)
    return session_plain(onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]))


def session_plain(session: Any) -> Callable[[Tensor], list[Tensor]]:
    """Normalised images -> all outputs of an onnxruntime session."""
    return lambda images: [torch.from_numpy(output) for output in run_session(session, images.numpy())]


def network_bytes(make: Callable[[BytesIO], None]) -> bytes:
    """What ``make`` writes."""
    held = BytesIO()
    make(held)
    return held.getvalue()
