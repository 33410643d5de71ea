"""The page of `weakseg serve` and what its script asks for: rasters, tiles, measurements, files to save.

Everything comes from this server; the page loads nothing from elsewhere and a page elsewhere cannot open anything.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote, urlsplit

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from weakseg.core.errors import DataError
from weakseg.raster.pictures import encode_jpeg, encode_png
from weakseg.raster.pyramid import NEAR, TILE, NoTileError, Pyramid
from weakseg.raster.stream import Pixels
from weakseg.serving.open_rasters import Rasters
from weakseg.serving.shown import Shown

UPLOAD: Final = "/rasters/upload"
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ASSETS: Final = {"": "view.html"} | {name: name for name in ("view.css", "view.js", "layers.js", "drop.js")}
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_KEPT: Final = {"Cache-Control": "private, max-age=600", "Cross-Origin-Resource-Policy": "same-origin"}
_FILE_TYPES: Final = {".tif": "image/tiff", ".qml": "application/xml", ".gpkg": "application/geopackage+sqlite3"}
File = Literal["map", "confidence", "applicability", "style", "polygons"]


class _Opened(BaseModel):
    """What to open."""

    model_config = ConfigDict(extra="forbid")
    path: str
    bands: list[int] = []
    stretch: list[float] = []


class _Outline(BaseModel):
    """Corners (column, row) in px of the raster."""

    model_config = ConfigDict(extra="forbid")
    corners: list[tuple[float, float]]


def add_page(application: FastAPI, rasters: Rasters) -> None:
    """Add the page, and below ``/rasters`` what it asks for."""
    _add_assets(application)
    _add_opening(application, rasters)
    _add_tiles(application, rasters)
    _add_making(application, rasters)


def _from_here(request: Request) -> None:
    """Refuse what a page elsewhere sends through the browser of somebody who may ask this server."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise DataError(f"a request of {origin[:100]}", expected="one of this server's page", cure="open that page")


_GUARDED: Final = [Depends(_from_here)]


def _add_assets(application: FastAPI) -> None:
    def answer(name: str) -> Callable[[], Response]:
        def asset() -> Response:
            content = files("weakseg.serving").joinpath("page", name).read_bytes()
            return Response(content, media_type=_TYPES[Path(name).suffix], headers=_HEADERS)

        return asset

    for address, name in _ASSETS.items():
        application.get(f"/{address}", include_in_schema=False)(answer(name))


def _add_opening(application: FastAPI, rasters: Rasters) -> None:
    @application.get("/rasters", summary="Paths of rasters in the workspace", dependencies=_GUARDED)
    def listed() -> dict[str, list[str]]:
        return {"paths": rasters.list_paths()}

    @application.post("/rasters", summary="Open a raster of the workspace", dependencies=_GUARDED)
    def opened(asked: _Opened) -> dict[str, Any]:
        return describe(rasters.open_path(asked.path, asked.bands, asked.stretch))

    @application.post(
        UPLOAD,
        summary="Open a GeoTIFF, PNG or JPEG file, which is the body",
        dependencies=_GUARDED,
        openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    )
    async def uploaded(
        request: Request,
        bands: Annotated[list[int] | None, Query()] = None,
        stretch: Annotated[list[float] | None, Query()] = None,
    ) -> JSONResponse:
        name = unquote(request.headers.get("x-file-name", ""))[:200] or "upload"
        kept = await _keep(request, rasters)
        shown = await run_in_threadpool(rasters.open_upload, kept, name, bands or (), stretch or ())
        return JSONResponse(describe(shown))

    @application.get("/rasters/{key}", summary="A raster that is open, and how far its map is", dependencies=_GUARDED)
    def described(key: str) -> dict[str, Any]:
        return describe(rasters.get(key))


async def _keep(request: Request, rasters: Rasters) -> Path:
    """The body as a file in a folder of its own, as it comes: a large raster is never in memory."""
    path = rasters.folder() / "upload"
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                await run_in_threadpool(file.write, chunk)
    except BaseException as error:
        shutil.rmtree(path.parent, ignore_errors=True)
        if isinstance(error, OSError):
            raise DataError(f"the upload ({error.strerror})", expected="room for it", cure="make room") from error
        raise
    return path


def describe(shown: Shown) -> dict[str, Any]:
    """What the page knows of a raster."""
    source = shown.source
    crs, transform = source.profile.get("crs"), source.profile.get("transform")
    authority = crs.to_authority() if crs else None
    return {
        "key": shown.key,
        "name": shown.name,
        "width": source.width,
        "height": source.height,
        "gsd": source.gsd,
        "crs": ":".join(authority) if authority else "its own CRS" if crs else None,
        "transform": list(transform)[:6] if transform else None,
        "tile": TILE,
        "levels": shown.pyramid.levels,
        "near": NEAR,
        "live_level": shown.live_level,
        "preview": shown.preview.told(),
        "map": shown.map.told(),
        "polygons": shown.polygons.told(),
        "unlike": shown.unlike,
    }


def _add_tiles(application: FastAPI, rasters: Rasters) -> None:
    @application.get(
        "/rasters/{key}/image/{level}/{column}/{row}", summary="A tile of the picture", response_class=Response
    )
    def image(key: str, level: int, column: int, row: int) -> Response:
        return _picture(rasters.get(key).pyramid, level, column, row)

    @application.get(
        "/rasters/{key}/map/{level}/{column}/{row}.png",
        summary="A tile of the map: red is the class, green the confidence, blue the applicability",
        response_class=Response,
    )
    def layers(key: str, level: int, column: int, row: int) -> Response:
        tile = rasters.get(key).map_tile(level, column, row)
        return Response(encode_png(tile), media_type="image/png", headers=_KEPT)


def _picture(pyramid: Pyramid, level: int, column: int, row: int) -> Response:
    """JPEG where all of a tile has data, which is a tenth of the bytes, else PNG."""
    tile: Pixels = pyramid.tile(level, column, row)
    if (tile[..., 3] == 255).all():
        return Response(encode_jpeg(tile[..., :3]), media_type="image/jpeg", headers=_KEPT)
    return Response(encode_png(tile), media_type="image/png", headers=_KEPT)


def _add_making(application: FastAPI, rasters: Rasters) -> None:
    @application.post("/rasters/{key}/measure", summary="The area inside an outline", dependencies=_GUARDED)
    def measure(key: str, outline: _Outline) -> dict[str, Any]:
        return rasters.get(key).measure(outline.corners)

    @application.post("/rasters/{key}/{kind}/make", summary="Make the map, or its polygons", dependencies=_GUARDED)
    def make(key: str, kind: Literal["map", "polygons"]) -> dict[str, Any]:
        shown = rasters.get(key)
        (rasters.make_map if kind == "map" else rasters.make_polygons)(shown)
        return describe(shown)

    @application.post("/rasters/{key}/map/stop", summary="Stop making the map", dependencies=_GUARDED)
    def stop(key: str) -> dict[str, Any]:
        shown = rasters.get(key)
        shown.map.stop()
        return describe(shown)

    @application.get(
        "/rasters/{key}/files/{kind}", summary="The whole map, its layers, style and polygons", response_class=Response
    )
    def saved(key: str, kind: File) -> Response:
        shown = rasters.get(key)
        path, work = shown.file(kind), shown.polygons if kind == "polygons" else shown.map
        if work.state != "done" or not path.is_file():
            raise NoTileError(f"no {kind} yet", expected="a map that is made", cure="make it first")
        name = f"{Path(shown.name).stem}_{'map' if kind == 'style' else kind}{path.suffix}"
        return FileResponse(path, media_type=_FILE_TYPES[path.suffix], filename=name)
