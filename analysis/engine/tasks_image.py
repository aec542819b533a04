"""Image classification: pixel arrays as they are, or pictures through the model's image processor."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.engine import labels
from analysis.engine.columns import Columns
from analysis.engine.files import Table
from analysis.engine.splits import Split
from analysis.errors import DataError


def check(tables: list[Table], columns: Columns) -> tuple[list[str], list[Table]]:
    """Check labels and the form of the first picture of every split, and replace labels by ids.

    Args:
        tables: splits of the source, train first.
        columns: settled columns.

    Returns:
        (label names, the tables with labels replaced).

    Raises:
        DataError: see `labels.classes` and `picture`.
    """
    for table in tables:
        pixels(table, columns.text, 0)
    names, ids = labels.classes(tables, columns.label)
    return names, [table.replaced(columns.label, values) for table, values in zip(tables, ids, strict=True)]


def pixels(table: Table, column: str, index: int) -> np.ndarray:
    """Decode one picture.

    Args:
        table: the split.
        column: picture column: nested lists of numbers, an encoded image file as bytes or {"bytes": …}, or a
            decoded image.
        index: position in the table.

    Returns:
        float32 [height, width] or [channels, height, width] for number lists; uint8 [height, width, 3] for
        pictures.

    Raises:
        DataError: anything else.
    """
    from PIL import Image, UnidentifiedImageError

    cell = table.columns[column][index]
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    try:
        if isinstance(content, bytes):
            return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        if isinstance(content, Image.Image):
            return np.asarray(content.convert("RGB"))
        if isinstance(content, (list, np.ndarray)):
            array = np.asarray(content, dtype=np.float32)
            if array.ndim in (2, 3) and array.size and np.isfinite(array).all():
                return array
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, TypeError) as error:
        raise DataError(
            f"The picture in {table.place(index, column)}, cannot be decoded ({error})."
        ) from error
    raise DataError(
        f"The picture in {table.place(index, column)}, is {type(cell).__name__} {str(cell)[:30]}; give rows "
        "of numbers (height × width or channels × height × width) or an encoded image as bytes, which "
        ".parquet files can hold."
    )


class ImageSplit(Split):
    """Pictures and class ids; decoded batch by batch, so that a large split stays small in memory.

    Args:
        name: split name.
        source: rows, with class ids as labels.
        columns: settled columns.
        processor: the model's image processor, or None when it takes pixel values as they are.
    """

    def __init__(self, name: str, source: Table, columns: Columns, processor: Any) -> None:
        super().__init__(name, source)
        self.labels = np.asarray(source.columns[columns.label], dtype=np.int64)
        self._column, self._processor = columns.text, processor
        self._shape = self._one(0).shape

    def _one(self, index: int) -> np.ndarray:
        """Return one picture as the processor, or the model, wants it."""
        array = pixels(self.source, self._column, index)
        if self._processor is None:
            floats = array.transpose(2, 0, 1) / np.float32(255) if array.dtype == np.uint8 else array
            return floats.astype(np.float32) if floats.ndim == 3 else floats[None]
        if array.dtype == np.uint8:
            return array
        stacked = array if array.ndim == 3 else np.repeat(array[None], 3, axis=0)
        scale = 255.0 if float(stacked.max()) <= 1.0 else 1.0
        return np.clip(stacked.transpose(1, 2, 0) * scale, 0, 255).astype(np.uint8)

    def batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Return "pixel_values" float32 [b, channels, height, width] and "labels" int64 [b].

        Args:
            indices: positions in [0, n), int [b].

        Returns:
            Arguments of the model's forward.

        Raises:
            DataError: a picture has another shape than the first one and there is no image processor.
        """
        indices = np.asarray(indices)
        pictures = [self._one(int(index)) for index in indices]
        if self._processor is not None:
            pixel_values = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
        else:
            odd = next((i for i, picture in enumerate(pictures) if picture.shape != self._shape), None)
            if odd is not None:
                raise DataError(
                    f"The picture in {self.source.place(int(indices[odd]), self._column)}, has the shape "
                    f"{pictures[odd].shape} but the first one has {self._shape}; give all pictures one shape."
                )
            pixel_values = torch.from_numpy(np.stack(pictures))
        return {"pixel_values": pixel_values, "labels": torch.from_numpy(self.labels[indices])}
