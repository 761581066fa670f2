"""The routes of ``bmp serve``: the page, what it asks, and ``POST /predict`` for programs. Knows no network.

Errors are one line: ``{"error": "..."}`` with 404 for what is not there, 409 for people that were changed elsewhere,
413 for too much, 422 for what cannot be read or makes no sense, 429 with Retry-After while the queue is full, 503 while
the server stops.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import PIL.Image
import torch
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from bmp import __version__
from bmp.apps.desk import Desk, picture_of
from bmp.apps.edits import KINDS, MOST_CLICKS, checked_person, checked_pose, merged
from bmp.apps.model_thread import BusyError, StoppedError
from bmp.apps.review import ConflictError, Document, NotFoundError, Photo, Review
from bmp.apps.uploads import keep
from bmp.errors import UserError
from bmp.io import images
from bmp.io.annotations import category, to_annotations
from bmp.io.json_fields import JsonObject, are_numbers
from bmp.ops.boxes import clip
from bmp.structures import Detections, Image

PAGE = Path(__file__).parent / "page"
_MOST_PEOPLE = 500  # of a photo


@dataclass(frozen=True)
class Limits:
    """What a request may bring.

    body: bytes. megapixels: of a picture. pictures: of a request. kept: files that may lie in the folder of uploads.
    """

    body: int = 64 * 2**20
    megapixels: float = 40.0
    pictures: int = 16
    kept: int = 2000


class _Strict(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False, extra="forbid")


class Pose(BaseModel):
    """The keypoints of a person as in people.json; other fields are not looked at."""

    model_config = ConfigDict(allow_inf_nan=False)

    keypoints: list[float] = Field(description="x, y, v for each", max_length=3000)
    keypoint_scores: list[float] | None = None
    keypoint_visibility: list[float] | None = None
    keypoint_presence: list[float] | None = None

    def row(self) -> JsonObject:
        """Return the fields that are there."""
        return {key: value for key, value in self.model_dump().items() if value is not None}


class Person(Pose):
    """A person as in people.json; fields that nobody edits are not looked at."""

    bbox: list[float] = Field(description="[x, y, width, height] in pixels", min_length=4, max_length=4)
    segmentation: dict[str, Any] | list[list[float]] | None = None
    score: float = 1.0
    mask_score: float = 0.0
    points: list[list[float]] = Field([], description="[x, y, 1 on, 0 beside the person]", max_length=MOST_CLICKS)
    edited: list[Literal[KINDS]] | None = None  # type: ignore[valid-type]


class Correction(_Strict):
    """A person whose mask is asked for, everybody else, and the keypoints that were placed by hand."""

    person: Person
    others: list[Pose] = Field([], max_length=_MOST_PEOPLE)
    moved: list[int] = Field([], max_length=1000)


class Addition(_Strict):
    """A box [x1, y1, x2, y2] with somebody in it, and everybody else."""

    box: list[float] = Field(min_length=4, max_length=4)
    others: list[Pose] = Field([], max_length=_MOST_PEOPLE)


class Merger(_Strict):
    """Two people that are one."""

    people: list[Person] = Field(min_length=2, max_length=2)


class Saving(_Strict):
    """Changes to people, made to a revision; null deletes."""

    revision: int = Field(ge=0)
    changes: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,40}$")], Person | None] = Field(
        max_length=_MOST_PEOPLE
    )
    reviewed: bool | None = None


class Failure(BaseModel):
    """A picture of which nothing was found out, and why."""

    file_name: str
    reason: str


class Prediction(BaseModel):
    """A COCO file of the pictures that were sent; ids of images are 1, 2, ... in the order of sending."""

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    failed: list[Failure]


def make_app(desk: Desk, review: Review, uploads: Path, photo_of: Any, limits: Limits, preset: str) -> FastAPI:
    """Return the application; at its end the model finishes what it is doing, and people.json is written.

    Args:
        desk: has the model.
        review: the queue.
        uploads: folder for what is dropped on the page.
        photo_of: turns the path of a file there into a ``Photo``.
        limits: of requests.
        preset: the name of the config, for the page.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(desk.stop)
        await run_in_threadpool(review.close)

    app = FastAPI(
        title="BMP",
        version=__version__,
        description="Boxes, masks and poses of every person.",
        lifespan=lifespan,
        docs_url=None,  # these two load scripts from elsewhere
        redoc_url=None,
    )
    _answer_errors(app)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})

    @app.get("/health")
    def health() -> dict[str, str]:
        """Say that the server is there."""
        return {"status": "ok", "version": __version__}

    @app.post("/predict", responses={413: {}, 422: {}, 429: {"description": "The queue is full; see Retry-After."}})
    def predict(
        pictures: Annotated[list[UploadFile], File(description="photos")],
        boxes: Annotated[
            str | None, Form(description="JSON [[x1, y1, x2, y2], ...]: look at these people only; for one photo")
        ] = None,
    ) -> Prediction:
        """Find the people of photos. A photo that cannot be read is listed under ``failed``; 422 if none can."""
        if len(pictures) > limits.pictures:
            raise HTTPException(413, f"{len(pictures)} pictures; send at most {limits.pictures} at a time")
        if boxes is not None and len(pictures) != 1:
            raise UserError("boxes: they go with one picture; send pictures with boxes one by one")
        given = None if boxes is None else _boxes(boxes)
        names = [_label(each.filename) for each in pictures]
        read: dict[int, Image] = {}
        failed: list[Failure] = []
        for number, (each, name) in enumerate(zip(pictures, names, strict=True)):
            try:
                content = each.file.read()
                _check_size(content, name, limits)
                read[number] = images.load(content, notice=lambda _: None)
            except (images.ImageError, HTTPException) as error:  # noqa: PERF203 - of this picture
                reason = _line(error).removeprefix("the bytes: ")
                if len(pictures) == 1:
                    raise (error if isinstance(error, HTTPException) else UserError(f"{name}: {reason}")) from None
                failed.append(Failure(file_name=name, reason=reason))
        if not read:
            raise UserError(f"none of the pictures can be read; the first: {failed[0].reason}")
        if given is not None:
            inside = clip(given.boxes, read[0].height, read[0].width)
            if bool((inside[:, 2:] - inside[:, :2] <= 0).any()):
                raise UserError("boxes: expected each of them to have something of the photo")
        found = desk.predict(list(read.values()), given).result()
        rows: list[dict[str, Any]] = []
        for number, people in zip(read, found, strict=True):
            own = to_annotations(people.instances, number + 1, desk.keypoints, len(rows) + 1, parts=people.parts)
            rows += [dict(row) for row in own]
        sizes = [
            {"id": number + 1, "file_name": names[number], "height": image.height, "width": image.width}
            for number, image in read.items()
        ]
        return Prediction(images=sizes, annotations=rows, categories=[dict(category(desk.keypoints))], failed=failed)

    @app.get("/api/queue")
    def queue() -> dict[str, Any]:
        """Return the queue, the least sure photos first, and what the page has to know of the model."""
        return {
            "file": review.name,
            "photos": review.queue(),
            "preset": preset,
            "takes_points": desk.takes_points,
            "keypoints": list(desk.keypoints.names),
            "skeleton": [list(limb) for limb in desk.keypoints.skeleton],
            "limits": {"body": limits.body, "pictures": limits.pictures},
        }

    @app.post("/api/uploads")
    def upload(files: Annotated[list[UploadFile], File(description="photos and videos")]) -> dict[str, Any]:
        """Take photos, and frames of videos, into the queue; what cannot be read is listed under ``failed``."""
        if len(files) > limits.pictures:
            raise HTTPException(413, f"{len(files)} files; send at most {limits.pictures} at a time")
        failed, keys = [], []
        for each in files:
            name = _label(each.filename)
            try:
                if uploads.is_dir() and sum(1 for _ in uploads.rglob("*")) >= limits.kept:
                    raise HTTPException(
                        413, f"{limits.kept} files were dropped here; start the server on another folder"
                    )
                content = each.file.read()
                if Path(name).suffix.lower() not in images.VIDEO_EXTENSIONS:
                    _check_size(content, name, limits)
                photos: list[Photo] = [photo_of(path) for path in keep(uploads, name, content)]
            except (UserError, HTTPException) as error:
                if len(files) == 1:
                    raise
                failed.append({"file_name": name, "reason": _line(error)})
                continue
            review.include(photos)
            keys += [photo.key for photo in photos]
        desk.wake()
        return {"keys": keys, "failed": failed}

    @app.get("/api/photos/{key}")
    def document(key: str) -> Document:
        """Return a photo with its people as they are known."""
        return review.document(key)

    @app.post("/api/photos/{key}/find")
    def find(key: str) -> Document:
        """Find the people of a photo where that was not done, and return it."""
        if review.state(key) != "found":
            desk.find(key).result()
        if review.state(key) == "found":
            desk.prepare(key)
        return review.document(key)

    @app.get("/api/photos/{key}/picture")
    def picture(key: str) -> Response:
        """Return the photo upright, as a JPEG."""
        stream = io.BytesIO()
        pixels = picture_of(review.photo(key).path).pixels.numpy()
        PIL.Image.fromarray(pixels).save(stream, "jpeg", quality=92)
        return Response(stream.getvalue(), media_type="image/jpeg", headers={"cache-control": "private, no-cache"})

    @app.post("/api/photos/{key}/trace")
    def trace(key: str) -> list[dict[str, Any]]:
        """Run the loop anew and return what each round detected, segmented and accepted."""
        return desk.trace(key).result()

    @app.post("/api/photos/{key}/mask")
    def mask(key: str, asked: Correction) -> dict[str, Any]:
        """Return the mask of a person whose keypoints, box or clicks were changed."""
        size, count = review.size(key), len(desk.keypoints)
        if any(not 0 <= number < count for number in asked.moved):
            raise UserError(f"moved: expected numbers of keypoints from 0 to {count - 1}")
        row = checked_person(asked.person.row(), *size, desk.keypoints)
        return desk.correct(key, row, _poses(asked.others, size, desk), asked.moved, size).result()

    @app.post("/api/photos/{key}/add")
    def add(key: str, asked: Addition) -> dict[str, Any]:
        """Return the row of somebody in a box, with pose and mask."""
        return desk.add(key, asked.box, _poses(asked.others, review.size(key), desk)).result()

    @app.post("/api/photos/{key}/merge")
    def merge(key: str, asked: Merger) -> dict[str, Any]:
        """Return the row of one person made of two."""
        size = review.size(key)
        first, second = (checked_person(each.row(), *size, desk.keypoints) for each in asked.people)
        return merged(first, second, *size)

    @app.put("/api/photos/{key}", responses={409: {"description": "Changed elsewhere; nothing was saved."}})
    def save(key: str, asked: Saving) -> Document:
        """Save changes to people; 409 and the photo as it is where others changed the same since ``revision``."""
        changes = {person: None if values is None else values.row() for person, values in asked.changes.items()}
        return review.save(key, asked.revision, changes, asked.reviewed)

    return app


def _poses(others: list[Pose], size: tuple[int, int], desk: Desk) -> list[JsonObject]:
    return [checked_pose(each.row(), *size, desk.keypoints) for each in others]


def _label(name: str | None) -> str:
    """Return the last part of a name that somebody sent, as a label."""
    plain = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter for letter in plain if letter.isprintable())[:200] or "picture"


def _check_size(content: bytes, name: str, limits: Limits) -> None:
    """Refuse a picture of too many pixels by its header, before anything is decoded."""
    try:
        with PIL.Image.open(io.BytesIO(content)) as picture:
            width, height = picture.size
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return  # no picture: who reads it says why
    if width * height > limits.megapixels * 1e6:
        raise HTTPException(
            413, f"{name}: {width}x{height} pixels, more than {limits.megapixels:g} megapixels; make it smaller"
        )


def _boxes(text: str) -> Detections:
    try:
        listed = json.loads(text)
        if not isinstance(listed, list) or not all(are_numbers(box, -1e9, 1e9) for box in listed):
            raise TypeError(text)
        rows = np.asarray(listed, dtype=np.float32).reshape(-1, 4)
    except (ValueError, TypeError, OverflowError, RecursionError):
        rows = np.full((1, 4), np.nan, dtype=np.float32)
    if len(rows) > _MOST_PEOPLE or not np.isfinite(rows).all() or (rows[:, 2:] <= rows[:, :2]).any():
        raise UserError(f"boxes: expected JSON [[x1, y1, x2, y2], ...] in pixels, at most {_MOST_PEOPLE}")
    return Detections(torch.from_numpy(rows), torch.ones(len(rows)))


def _line(error: Exception) -> str:
    text = error.detail if isinstance(error, HTTPException) else str(error)
    return " ".join(str(text).split()) or type(error).__name__


def _answer_errors(app: FastAPI) -> None:
    """Answer every error with one line and the right status."""

    def said(status: int, error: Exception, **fields: Any) -> JSONResponse:
        return JSONResponse({"error": _line(error), **fields}, status)

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> JSONResponse:
        return said(error.status_code, error)

    @app.exception_handler(RequestValidationError)
    async def of_fields(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return JSONResponse({"error": f"{where:.200}: {first['msg']:.300}"}, 422)

    @app.exception_handler(UserError)
    async def of_users(_: Request, error: UserError) -> JSONResponse:
        return said(404 if isinstance(error, NotFoundError) else 422, error)

    @app.exception_handler(ConflictError)
    async def of_conflicts(_: Request, error: ConflictError) -> JSONResponse:
        return said(409, error, document=error.document, people=error.people)

    @app.exception_handler(BusyError)
    async def of_full_queues(_: Request, error: BusyError) -> JSONResponse:
        response = said(429, error)
        response.headers["retry-after"] = str(error.retry_after)
        return response

    @app.exception_handler(StoppedError)
    async def of_the_end(_: Request, error: StoppedError) -> JSONResponse:
        return said(503, error)

    @app.exception_handler(Exception)
    async def of_ours(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"unexpected {type(error).__name__}; the server's log says where"}, 500)
