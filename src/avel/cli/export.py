"""`avel export`: a trained model as files that run without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avel.cli._outputs import check_places, unwritable
from avel.errors import UsageError


def export(
    model: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run's folder, or one that ships: default, toybox."),
    ],
    path: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx", help="The file; its backbones lie beside it.")
    ],
    no_backbones: Annotated[
        bool, typer.Option("--no-backbones", help="Only the model, for those who have the others.")
    ] = False,
) -> None:
    """Write a model and its backbones as ONNX, once they are found to answer as in torch."""
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"{path}", expected="a file name that ends in .onnx")
    _need_packages()
    check_places([path])
    from avel.inference.load import load_trained
    from avel.onnx.export import export_model

    try:
        done = export_model(load_trained(model), path, with_backbones=not no_backbones)
    except OSError as e:
        raise unwritable(path, e.strerror or str(e)) from e
    for written in done.paths:
        print(f"wrote {written} ({written.stat().st_size / 10**6:.1f} MB)")
    print(f"answers differ from torch's by at most {done.difference:.1e}")


def _need_packages() -> None:
    from importlib.util import find_spec

    missing = [n for n in ("onnx", "onnxscript", "onnxruntime") if find_spec(n) is None]
    if missing:
        raise UsageError(
            f"not installed: {', '.join(missing)}", expected="them", hint="pip install 'avel[onnx]'"
        )
