"""`weakseg tag` from the workspace to a server that waits: crops, answers, pictures, a model if there is one."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Final

from weakseg.core.classes import load_classes
from weakseg.core.errors import ParamsError, TrackingError
from weakseg.core.layout import Layout
from weakseg.core.methods import BEST_FIRST
from weakseg.core.params import load_params
from weakseg.labels.answer_file import AnswerFile
from weakseg.labels.answers import as_time
from weakseg.raster.header import quiet_process
from weakseg.tagging.guesses import Guesser, Predict, predict_with
from weakseg.tagging.pictures import CropPictures
from weakseg.tagging.proposals import propose_crops
from weakseg.tagging.server import address_of, make_server, only_server, workspace_token
from weakseg.tagging.session import TagSession

AUTO: Final = "auto"
NONE: Final = "none"


@contextmanager
def tag_server(
    root: Path,
    *,
    order: Path | None = None,
    areas: Sequence[str] = (),
    size: int | None = None,
    disputes: bool = False,
    again: bool = False,
    overlap: float = 0.0,
    model: str = AUTO,
    port: int = 0,
) -> Iterator[tuple[ThreadingHTTPServer, str]]:
    """The server of a workspace's page, bound and not yet serving, and what to say: its address first.

    Args:
        order, areas, size, disputes: which crops (:func:`weakseg.tagging.proposals.propose_crops`).
        again: serve crops of ``order`` too that were tagged before it was written, with nothing prefilled.
        overlap: share of crops, in [0, 1], that two annotators tag.
        model: whose guesses are shown: an address, "none", or "auto" for the champion, else the model of
            out/checkpoints that makes most of tags (``methods.BEST_FIRST``; of several seeds the newest), else none.
        port: of 127.0.0.1; 0 takes a free one.

    Raises:
        StageError: the workspace is being served already.
        ParamsError, DataError: options or data that do not fit.
    """
    _check(order, areas, disputes, again, overlap)
    layout = Layout(root)
    quiet_process()
    os.environ.setdefault("GDAL_CACHEMAX", "256")  # MiB; GDAL's own is 5 % of the machine, which an overview fills
    scheme, token = load_classes(layout.classes), workspace_token(root)
    with only_server(root):
        proposal = propose_crops(root, order=order, areas=areas, size=size, disputes=disputes)
        since = _time_of(order) if order is not None and again else ""
        if since:
            proposal = replace(proposal, known={})
        pictures = CropPictures(layout.images, proposal.sizes, root / ".weakseg" / "overviews")
        guesser, file = open_guesser(root, model, pictures, scheme.object_names)
        said = [proposal.said, f"guesses of {file}" if file is not None else "no model guesses"]
        with AnswerFile(layout.answers, scheme) as answers:
            session = TagSession(
                answers, proposal, scheme, pictures, guesser, overlap=overlap, disputes=disputes, since=since
            )
            about = {
                "suggested": _user(),
                "said": proposal.said,
                "model": f"{file.parent.name}/{file.name}" if file is not None else "",
            }
            with make_server(session, token, about, port=port) as server:
                server.daemon_threads = True
                yield server, "\n".join([address_of(server, token), *said])


def _check(order: Path | None, areas: Sequence[str], disputes: bool, again: bool, overlap: float) -> None:
    faults = {
        f"--overlap {overlap:g}": not 0 <= overlap <= 1,
        "--order with --areas or --disputes": order is not None and (bool(areas) or disputes),
        "--again without --order": again and order is None,
    }
    for fault, there in faults.items():
        if there:
            expected = "a share from 0 to 1, and one source of crops, for --again a list of them"
            raise ParamsError(fault, expected=expected, cure="mend the options")


def _time_of(path: Path) -> str:
    """When a list was written, as answers have it; "" where it is not there, which is said elsewhere."""
    return as_time(path.stat().st_mtime) if path.is_file() else ""


def open_guesser(
    root: Path, model: str, pictures: CropPictures, names: Sequence[str]
) -> tuple[Guesser | None, Path | None]:
    """What guesses crops, and the file of its network; None twice where there is none. ``model`` as in tag_server."""
    file = _model_file(root, model)
    return (None, None) if file is None else (Guesser(_loader(file, Layout(root).images), pictures, names), file)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in containers
        return ""


def _model_file(root: Path, model: str) -> Path | None:
    if model == NONE:
        return None
    from weakseg.registry.addresses import find_model

    if model != AUTO:
        return find_model(root, model)
    layout = Layout(root)
    with suppress(TrackingError):
        return find_model(root, f"models:/{load_params(layout.params).promote.model}@champion")
    seeds = [path for name in BEST_FIRST for path in layout.checkpoints(name).glob("seed*.pt")]
    best = [path for path in seeds if path.parent == seeds[0].parent]
    return max(best, key=lambda path: path.stat().st_mtime, default=None)


def _loader(file: Path, images: Path) -> Callable[[], tuple[Sequence[str], str, Predict]]:
    def load() -> tuple[Sequence[str], str, Predict]:
        from weakseg.inference.model import load_predictor
        from weakseg.inference.scene import PLAIN
        from weakseg.training.machine import machine_from_environment

        machine = machine_from_environment()
        predictor = load_predictor(file, PLAIN, machine)
        return predictor.scheme.names, predictor.digest, predict_with(predictor, images, machine)

    return load
