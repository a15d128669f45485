"""The rows of a folder's annotations, as the tests compare them."""

from __future__ import annotations

from pathlib import Path

from avel.data.annotations import AnnotationRow, read_annotations


def read_rows(root: Path) -> tuple[list[AnnotationRow], list[str]]:
    """The rows, and what is wrong with those that couldn't be read."""
    annotations = read_annotations(root)
    return annotations.rows, annotations.mistakes + annotations.left_out
