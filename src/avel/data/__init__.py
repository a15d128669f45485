"""Data sets: the published AVE files, a person's own folder, and two that make themselves."""

from avel.data.base import Dataset, Split, load_dataset

__all__ = ["Dataset", "Split", "load_dataset"]
