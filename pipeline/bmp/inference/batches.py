"""Sends many pictures through the model: read ahead, in batches, and one that fails takes no other along.

What follows on the networks is done beside them. It knows neither the source of the pictures nor the use of the people.
The caller names each picture by a key of any type (``Key``), which is returned with the outcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from typing import Generic, TypeVar

from typing_extensions import Self

from bmp.api import People
from bmp.errors import UserError
from bmp.loop import Loop
from bmp.structures import Detections, Image

Key = TypeVar("Key")
Made = TypeVar("Made")
IN_FLIGHT = 256 << 20
"""Bytes of pictures that are worked on while the networks go on."""


class SideWork(Generic[Made]):
    """Works on results while the networks go on, several at a time, and hands over what is made of them in their order.

    Nothing of it keeps the networks waiting as long as what is not yet handed over takes less than ``IN_FLIGHT``. All
    of it is handed over at the end of the context, also where that ends with an error or one of them is refused.

    Args:
        pool: does the work.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._in_work: deque[tuple[int, Future[Made], Callable[[Future[Made]], None]]] = deque()

    def add(self, size: int, work: Callable[[], Made], hand_over: Callable[[Future[Made]], None]) -> None:
        """Begin ``work``, which keeps ``size`` bytes; ``hand_over`` is called in this thread once it has ended."""
        self._in_work.append((size, self._pool.submit(work), hand_over))
        while self._in_work and (self._in_work[0][1].done() or sum(each[0] for each in self._in_work) > IN_FLIGHT):
            self._finish_first()

    def finish(self) -> None:
        """Wait for all that is left, and hand it over."""
        with ExitStack() as rest:  # where one is refused, what is behind it is still handed over
            for _ in range(len(self)):
                rest.callback(self._finish_first)

    def _finish_first(self) -> None:
        _, made, hand_over = self._in_work.popleft()
        made.exception()  # waits
        hand_over(made)

    def __len__(self) -> int:
        return len(self._in_work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()


def kept_bytes(outcome: People | Exception) -> int:
    """Return about how many bytes the people of a picture keep: the picture itself, also as each round saw it."""
    return 0 if isinstance(outcome, Exception) else outcome.image.pixels.numel() * (1 + len(outcome.trace))


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
