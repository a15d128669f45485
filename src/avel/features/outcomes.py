"""Extraction of a plan's files, each outcome stored beside the features."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from avel.features.content_hashes import ContentHashes
from avel.features.manifest import Manifest, quarantine

if TYPE_CHECKING:
    from avel.features.corpus import JobOutcome, MediaJob, Outcomes
    from avel.features.listing import FilePlan


def stored_outcomes(
    plan: FilePlan, engine: Callable[[Iterator[MediaJob]], Outcomes]
) -> Generator[JobOutcome]:
    """Extract all files of a plan; manifests and content hashes are kept up to date.

    Args:
        plan: The files; see :func:`avel.features.listing.plan`.
        engine: Does the jobs, and returns their outcomes as they come.

    Yields:
        The outcome of each file. Closing the generator stops the engine and writes the manifests.

    Raises:
        DataError: if a folder of features can't be used.
    """
    quarantined = {str(store): quarantine(store) for store in plan.stores if store.is_dir()}
    with ExitStack() as stack:
        hashes = {str(store): ContentHashes(store) for store in plan.stores}
        for store_hashes in hashes.values():
            stack.callback(
                store_hashes.save
            )  # so that `avel train` needn't hash what was hashed here
        manifests = {str(store): stack.enter_context(Manifest(store)) for store in plan.stores}
        for outcome in stack.enter_context(closing(engine(plan.jobs(quarantined)))):
            if outcome.job.store:
                outcome = manifests[outcome.job.store].add(outcome)
                hashes[outcome.job.store].remember(
                    Path(outcome.job.media), outcome.content, before=outcome.written
                )
            yield outcome
