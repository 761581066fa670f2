"""Image embeddings on disk, so that an encoder that is not trained runs once an image; knows no network by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from bmp.errors import UserError
from bmp.io.atomic import replacing_path
from bmp.models.compute import tensor_bytes, weights_digest


class EmbeddingCache:
    """A folder of embeddings in half precision: one file an image, in a folder of each encoder's own.

    A file is written in one step, so that several processes can share the folder and a kill leaves no half of one.

    Args:
        folder: made when the first embedding is written.
        encoder: makes the embeddings. Its structure and weights name the folder: embeddings of another one are
            never read.
        detail: anything else that an embedding depends on, such as the number format that the encoder computes in.
    """

    def __init__(self, folder: str | os.PathLike[str], encoder: nn.Module, detail: str = "") -> None:
        self.folder = Path(folder).expanduser() / encoder_key(encoder, detail)

    def read(self, key: str) -> tuple[Tensor, ...] | None:
        """Return the embedding of image ``key``, float16 on the CPU, None where there is none or a broken one."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            levels = load_file(self._file(key))
        except (OSError, SafetensorError):
            return None
        return tuple(levels[str(level)] for level in range(len(levels)))

    def write(self, key: str, embedding: Sequence[Tensor]) -> None:
        """Keep the tensors of an image's embedding; ``UserError`` where the folder cannot be written."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        file = self._file(key)
        levels = {str(level): tensor.detach().half().cpu().contiguous() for level, tensor in enumerate(embedding)}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing_path(file, shared=True) as unfinished:
                save_file(levels, unfinished)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{file}: cannot be written, {reason}; make room, or train with cache=None") from None

    def _file(self, key: str) -> Path:
        # Folders of a few hundred files each stay quick on any file system.
        return self.folder / key[:2] / f"{key}.safetensors"


def encoder_key(encoder: nn.Module, detail: str = "") -> str:
    """Return 32 hexadecimal digits that change with any weight of the encoder, its structure, or ``detail``."""
    content = f"{detail}\n{encoder!r}\n{weights_digest(encoder)}"
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def image_key(pixels: Tensor) -> str:
    """Return 32 hexadecimal digits that identify the content of a network's input, uint8 (3, S, S)."""
    return hashlib.blake2b(tensor_bytes(pixels), digest_size=16).hexdigest()
