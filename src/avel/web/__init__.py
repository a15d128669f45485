"""`avel serve`: jobs, their results and their corrections over HTTP, and the page that shows them.

From the ground up: ``store`` (what survives a restart), ``kept`` (a job's result on disk), ``work``
(what a worker process does), ``crew`` (those processes), ``desk`` (what can be asked of a job),
``review`` and ``aside`` (results, corrections, exports), ``dataset`` (corrections to learn from),
``guard`` (who may ask), ``app`` with ``routes_*`` (the addresses), ``serving`` (the server).
"""
