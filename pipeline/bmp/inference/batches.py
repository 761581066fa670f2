"""Sends many pictures through the model: read ahead, in batches, and one that fails takes no other along.

It knows neither the source of the pictures nor the use of the people. The caller names each picture by a key of any
type (``Key``), which is returned with the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import TypeVar

from bmp.api import People
from bmp.errors import UserError
from bmp.loop import Loop
from bmp.structures import Detections, Image

Key = TypeVar("Key")


def read_ahead(
    groups: Sequence[Sequence[Key]], read: Callable[[Key], Image], pool: Executor
) -> Iterator[list[tuple[Key, Image | UserError]]]:
    """Read the pictures of each group, one group ahead of the one that is being worked on.

    A picture that cannot be read is there as the ``UserError`` that ``read`` raised.
    """
    ahead: list[Future[Image | UserError]] = []
    for group, following in zip([[], *groups], [*groups, []], strict=True):
        pictures, ahead = ahead, [pool.submit(_read, read, key) for key in following]
        if group:
            yield [(key, picture.result()) for key, picture in zip(group, pictures, strict=True)]


def find_people(
    model: Loop,
    batch: Sequence[tuple[Key, Image | UserError]],
    boxes: Callable[[Key], Detections | None] = lambda _: None,
    *,
    only_given: bool = False,
    trace: bool = False,
    debug: bool = False,
) -> Iterator[tuple[Key, People | Exception]]:
    """Give each picture of a batch its people, in any order, or the reason why there are none.

    Where the batch breaks, its unfinished pictures are tried one by one, so that only those fail that must.

    Args:
        model: the loop.
        batch: pictures, or why they cannot be read.
        boxes: returns the people to start from in place of the detector's; None for detection.
        only_given: look for no other people in pictures with ``boxes``.
        trace: keep the input and output of every stage of every round.
        debug: let an error of the model through instead.
    """
    yield from ((key, picture) for key, picture in batch if isinstance(picture, Exception))
    todo = {i: (key, picture) for i, (key, picture) in enumerate(batch) if not isinstance(picture, Exception)}
    indices = list(todo)
    given = [boxes(key) for key, _ in todo.values()]
    try:
        for result in model.run([picture for _, picture in todo.values()], given, trace, only_given=only_given):
            key, image = todo.pop(indices[result.index])
            yield key, People(image, result.people, model.pose.keypoints, result.trace, parts=result.parts)
    except Exception as error:
        if debug:
            raise
        for key, picture in todo.values():
            if len(indices) == 1:
                yield key, error
            else:
                yield from find_people(model, [(key, picture)], boxes, only_given=only_given, trace=trace, debug=debug)


def _read(read: Callable[[Key], Image], key: Key) -> Image | UserError:
    try:
        return read(key)
    except UserError as error:
        return error
