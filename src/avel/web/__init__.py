"""`avel serve`: jobs, their results and their corrections over HTTP, and the page that shows them.

From the ground up: ``store`` (what survives a restart), ``job_folder`` (a job's result on disk),
``worker`` (what a worker process does), ``workers`` (those processes), ``jobs`` (taken in,
cancelled, retried, deleted), ``review`` and ``exports`` (results, corrections, exports),
``dataset`` and ``dataset_labels`` (corrections as training data), ``training_process`` and
``training`` (a model trained on them), ``access`` (who may call), ``app`` with ``routes_*`` (the
addresses), ``server``.
"""
