"""Importing timm, and torchvision below it, without torch's compiler: it (with sympy) is two thirds of their time.

Both ask the compiler something while they are imported, for functions that no network here calls: torchvision 0.26 to
0.30 whether it supports a device, timm 1.0.20 and later not to compile NaFlexViT. The answers wait until such a
function is called. A training imports the compiler all the same, as torch's optimisers ask it too.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode

COMPILER: Final = "torch._dynamo"
PARTS: Final = (COMPILER, f"{COMPILER}.utils")


def import_timm() -> Any:
    """The module timm; torchvision is imported too."""
    if "timm" not in sys.modules and COMPILER not in sys.modules:
        with _stand_in():
            _try("torchvision")
        with _disabled_later():
            _try("timm")
    return importlib.import_module("timm")


class NothingDrawnOnMeta(TorchFunctionMode):
    """While it is entered, tensors without values (device ``meta``) are not initialised; all others are, as ever.

    segmentation-models-pytorch makes a network on ``meta`` to look at its shape; to draw no values for it torch imports
    its compiler.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            tensor = named["tensor"] if "tensor" in named else args[0]
            if tensor.is_meta:
                return tensor
        return func(*args, **named)


def _try(name: str) -> None:
    """Import a package; where it asks the compiler for more, forget it again: it is imported the usual way later."""
    try:
        importlib.import_module(name)
    except (ImportError, AttributeError):
        for part in [one for one in sys.modules if one.partition(".")[0] == name]:
            del sys.modules[part]


@contextmanager
def _stand_in() -> Iterator[None]:
    """A module in the place of the compiler that has what torchvision takes of it."""
    package, utils = (ModuleType(name) for name in PARTS)
    utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    sys.modules |= dict(zip(PARTS, (package, utils), strict=True))
    try:
        yield
    finally:
        for name in PARTS:
            sys.modules.pop(name, None)
        vars(torch).pop("_dynamo", None)  # else torch would hold the stand-in


def _is_compile_supported(device: str) -> Any:
    return importlib.import_module(PARTS[1]).is_compile_supported(device)


@contextmanager
def _disabled_later() -> Iterator[None]:
    """``torch.compiler.disable`` as a decorator that takes effect when its function is first called."""
    real: Any = torch.compiler.disable

    def disable(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
        if function is None:
            return functools.partial(disable, **options)

        @functools.wraps(function)
        def call(*words: Any, **named: Any) -> Any:
            return real(function, **options)(*words, **named)

        return call

    torch.compiler.disable = disable  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compiler.disable = real
