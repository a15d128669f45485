"""`avel export`: a trained model as files that run without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avel.cli._options import need_packages
from avel.cli._outputs import check_writable, writing
from avel.errors import UsageError


def export(
    model: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run's folder, or a packaged model: default, toybox."),
    ],
    path: Annotated[
        Path,
        typer.Argument(metavar="MODEL.onnx", help="The file to write; its backbones go beside it."),
    ],
    no_backbones: Annotated[
        bool, typer.Option("--no-backbones", help="Write the model alone.")
    ] = False,
) -> None:
    """Write a model and its backbones as ONNX.

    Their outputs are compared with torch's before.
    """
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"{path} doesn't end in .onnx", expected="a file name that does")
    need_packages("export", ("onnx", "onnxscript", "onnxruntime"), "onnx")
    check_writable([path])
    from avel.inference.load import load_trained
    from avel.onnx.export import export_model

    with writing(path):
        exported = export_model(load_trained(model), path, with_backbones=not no_backbones)
    for written in exported.paths:
        print(f"wrote {written} ({written.stat().st_size / 10**6:.1f} MB)")
    print(f"outputs differ from torch's by at most {exported.difference:.1e}")
