"""`weakseg serve`: one application with the page, maps of files, tiles for GIS programs, health and metrics.

Files are answered with the map that ``weakseg predict`` writes, band by band through a temporary file, so that memory
does not grow with the raster. Limits stand in front, as middleware.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from weakseg.core.errors import WeaksegError, one_line
from weakseg.inference.encode import Kind
from weakseg.maps.mercator import tile_bounds
from weakseg.raster.pictures import encode_png
from weakseg.raster.pyramid import NoTileError, NotReadyError
from weakseg.raster.stream import open_raster
from weakseg.serving.admission import Admission, App, Counted, Counters
from weakseg.serving.background import RETRY, BusyError
from weakseg.serving.demo import about_service, page_reply
from weakseg.serving.open_rasters import Rasters
from weakseg.serving.page_routes import UPLOAD, add_page
from weakseg.serving.request_guard import RequestGuard
from weakseg.serving.service import Limits, MapService, TooLargeError
from weakseg.serving.xyz import MapTiles, ModelTiles, coloured

COSTLY: Final = ("/map", "/tiles", "/rasters")
AT_WORK: Final = 8  # requests that cost something, at a time
Format = Literal["tif", "png", "json"]
_TYPES: Final[dict[str, Format]] = {"application/json": "json", "image/png": "png"}


def make_application(
    service: MapService,
    model: str,
    *,
    tiles: MapTiles | ModelTiles | None = None,
    rasters: Rasters | None = None,
    at_work: int = AT_WORK,
    hosts: Sequence[str] = ("127.0.0.1", "localhost"),
) -> App:
    """The ASGI application.

    Args:
        service: the network and its limits.
        model: its address, to be shown.
        tiles: what ``/tiles`` shows; 404 without it.
        rasters: what the page opens, closed when the server ends; uploads alone without it.
        at_work: requests that may predict or wait for it at a time; more are 503.
        hosts: names by which it may be asked, ``*`` for any: a page elsewhere must not reach it through a browser.
    """
    opened = rasters or Rasters(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(opened.close)

    # no page of documentation: it would load its script from elsewhere
    application = FastAPI(title="weakseg", version=version("weakseg"), docs_url=None, redoc_url=None, lifespan=lifespan)
    application.add_exception_handler(WeaksegError, _told)
    application.add_exception_handler(RequestValidationError, _misformed)
    counters = Counters()
    _add_about(application, service, model)
    add_page(application, opened)
    _add_maps(application, service)
    _add_tiles(application, tiles)
    _add_state(application, model, counters)
    uploads = Limits(content=service.limits.upload)
    guarded: App = RequestGuard(application, service.limits, others={UPLOAD: uploads})
    admitted = Admission(guarded, paths=COSTLY, limit=at_work, longest=service.limits.content)
    counted = Counted(admitted, counters, paths=(*COSTLY, "/healthz", "/metrics"))
    return TrustedHostMiddleware(counted, allowed_hosts=list(hosts))


async def _told(_: Request, error: Exception) -> Response:
    """One sentence for what the sender can mend."""
    if isinstance(error, BusyError | NotReadyError):
        wait = RETRY if isinstance(error, BusyError) else 1
        told = {"error_code": "TEMPORARILY_UNAVAILABLE", "message": str(error)}
        return JSONResponse(told, 503, {"Retry-After": str(wait)})
    status = 413 if isinstance(error, TooLargeError) else 404 if isinstance(error, NoTileError) else 400
    return JSONResponse({"error_code": "BAD_REQUEST", "message": str(error)}, status)


async def _misformed(_: Request, error: Exception) -> Response:
    """One sentence for parameters and bodies of another form; FastAPI's own repeats the body, which may be no text."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    said = one_line(f"{place}: {first['msg']}; expected what /openapi.json says; mend the request")
    return JSONResponse({"error_code": "BAD_REQUEST", "message": said}, 422)


def _add_about(application: FastAPI, service: MapService, model: str) -> None:
    @application.get("/about", summary="The model, its classes and the limits")
    def about() -> dict[str, object]:
        return about_service(service, model)


def _add_maps(application: FastAPI, service: MapService) -> None:
    @application.post(
        "/map",
        summary="The map of a GeoTIFF, PNG or JPEG file, which is the body",
        response_class=Response,
        responses={200: {"content": {"image/tiff": {}, "image/png": {}, "application/json": {}}}},
        openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    )
    async def map_of(
        request: Request,
        layer: Kind = "classes",
        format: Format | None = None,
        bands: Annotated[list[int] | None, Query(description="As many as the model has, from 1.")] = None,
        stretch: Annotated[list[float] | None, Query(description="Two values that become 0 and 255.")] = None,
    ) -> Response:
        chosen = format or _TYPES.get(request.headers.get("accept", ""), "tif")
        content = await request.body()
        answer_file = partial(service.answer_file, bands=bands or (), stretch=stretch or ())
        write_layer = partial(service.write_layer, bands=bands or (), stretch=stretch or ())
        if chosen == "json":
            began = time.monotonic()
            answer = await run_in_threadpool(answer_file, content)
            found = page_reply(answer, len(service.predictor.scheme), time.monotonic() - began)
            return JSONResponse(found)
        folder = Path(tempfile.mkdtemp(prefix="weakseg-"))
        try:
            path = await run_in_threadpool(write_layer, content, folder, layer)
            if chosen == "png":
                return Response(await run_in_threadpool(_picture, path, layer, service), media_type="image/png")
            task = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
            done, folder = folder, Path()
            return FileResponse(done / path.name, media_type="image/tiff", filename=f"{layer}.tif", background=task)
        finally:
            if folder != Path():
                shutil.rmtree(folder, ignore_errors=True)


def _picture(path: Path, layer: Kind, service: MapService) -> bytes:
    """Classes in their colours, all other layers as grey values of their first band."""
    with open_raster(path) as file:
        values = file.read(1)
    return coloured(values, service.predictor.scheme) if layer == "classes" else encode_png(values)


def _add_tiles(application: FastAPI, tiles: MapTiles | ModelTiles | None) -> None:
    @application.get("/tiles/{zoom}/{column}/{row}.png", summary="Web Mercator, XYZ", response_class=Response)
    def tile(zoom: int, column: int, row: int) -> Response:
        if tiles is None:
            raise NoTileError("no raster to show", expected="one", cure="start with `weakseg serve --tiles FILE`")
        picture = coloured(tiles.classes(tile_bounds(zoom, column, row)), tiles.scheme)
        return Response(picture, media_type="image/png", headers={"Cache-Control": "max-age=3600"})


def _add_state(application: FastAPI, model: str, counters: Counters) -> None:
    @application.get("/healthz", summary="Whether the server answers")
    def healthz() -> dict[str, str]:
        return {"status": "ok", "model": model, "version": version("weakseg")}

    @application.get("/metrics", summary="For Prometheus", response_class=Response)
    def metrics() -> Response:
        return Response(counters.text(), media_type="text/plain; version=0.0.4")
