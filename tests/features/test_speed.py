"""What ``auto`` chooses, by injected timings; what it remembers, and the way without a compiler."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avel.features import network, speed
from avel.features.network import Network
from avel.features.speed import TRIAL, compiling_pays, eager_speed
from tests.backbone_samples import OneLayer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``speed.json`` of a cache folder of its own; and what `auto` measures isn't replaced."""
    monkeypatch.setenv("AVEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", "true")
    monkeypatch.setattr(network, "eager_speed", eager_speed)
    return tmp_path / "cache" / "speed.json"


class Machine:
    """A machine with such speeds; ``compilings`` counts how often it compiles.

    Args:
        float32, bf16, compiled: Seconds of one input.
        compiling: Seconds, or the error that it ends with.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        *,
        float32: float = 2.0,
        bf16: float = 1.0,
        compiled: float = 0.5,
        compiling: float | Exception = 30.0,
    ) -> None:
        self.compilings = 0
        self._warm = False

        def seconds(backbone: nn.Module, inputs: Tensor, device: torch.device) -> float:
            half = next(backbone.parameters()).dtype == torch.bfloat16
            return len(inputs) * (bf16 if half else float32)

        def wall_seconds(run: object, inputs: Tensor, device: torch.device) -> float:
            if isinstance(run, nn.Module):
                return len(inputs) * bf16
            if self._warm:
                return len(inputs) * compiled
            if isinstance(compiling, Exception):
                raise compiling
            self._warm = True
            return compiling + len(inputs) * compiled

        def compile_(backbone: nn.Module) -> Callable[[Tensor], Tensor]:
            self.compilings, self._warm = self.compilings + 1, False
            return lambda inputs: backbone(inputs)

        patch.setattr(speed, "_seconds", seconds)
        patch.setattr(speed, "_wall_seconds", wall_seconds)
        patch.setattr(speed, "compiled", compile_)


def auto(inputs: float = 0.0, *, batch: int = 4, **options: Any) -> Network:
    return Network(
        OneLayer().eval(), {"name": "x"}, device=CPU, precision="auto", batch=batch, inputs=inputs,
        **options,
    )  # fmt: skip


def way(network: Network) -> str:
    return f"{network.precision}{' compiled' if network.compiled else ''}"


#: So many inputs that compiling is tried, on any number of threads at one second an input.
MANY = 10 * TRIAL * torch.get_num_threads()


@pytest.mark.parametrize(
    ("float32", "bf16", "compiled", "chosen"),
    [
        (1.0, 1.0, 0.1, "float32"),  # without units for bfloat16 nothing is compiled
        (1.0, 3.0, 0.1, "float32"),
        (2.0, 1.0, 0.5, "bf16 compiled"),
        (2.0, 1.0, 0.95, "bf16"),
        (2.0, 1.0, 2.0, "bf16"),
    ],
)
def test_auto_takes_the_fastest_and_remembers(
    monkeypatch: pytest.MonkeyPatch, float32: float, bf16: float, compiled: float, chosen: str
) -> None:
    Machine(monkeypatch, float32=float32, bf16=bf16, compiled=compiled)
    assert way(auto(MANY)) == chosen
    again = Machine(monkeypatch, float32=1.0, bf16=10.0, compiled=10.0)  # isn't measured again
    assert way(auto(MANY)) == chosen
    assert again.compilings == (chosen == "bf16 compiled")


def test_a_clip_is_never_compiled_and_nothing_is_tried_for_it(
    monkeypatch: pytest.MonkeyPatch, stored: Path
) -> None:
    machine = Machine(monkeypatch)
    for inputs in (0.0, 160.0, TRIAL - 1):
        assert way(auto(inputs)) == "bf16"
    assert machine.compilings == 0 and len(json.loads(stored.read_text())) == 1
    assert way(auto(MANY)) == "bf16 compiled" and machine.compilings == 1
    assert way(auto(10.0)) == "bf16" and machine.compilings == 1
    # known now: 30 s are less than what 100 inputs gain
    assert way(auto(100.0)) == "bf16 compiled" and machine.compilings == 2


def test_compiling_pays_from_a_number_of_inputs_on() -> None:
    measured = {"eager": 1.0, "compiled": 0.5, "compiling": 40.4}
    pays = [compiling_pays(measured, n) for n in range(200)]
    first = pays.index(True)
    assert first == 99 and all(pays[first:])  # 99 >= 1.1 x (40.4 + 49.5)
    slower = {"eager": 1.0, "compiled": 1.0, "compiling": 1.0}
    assert not compiling_pays(slower, 1e12) and not compiling_pays({}, 1e12)


def test_another_batch_is_measured_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    for batch in (4, 8, 8):
        assert way(auto(MANY, batch=batch)) == "bf16 compiled"
    assert machine.compilings == 3
    Machine(monkeypatch, compiled=2.0)
    assert way(auto(MANY, batch=16)) == "bf16" and way(auto(MANY)) == "bf16 compiled"


def test_what_was_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch, stored: Path) -> None:
    machine = Machine(monkeypatch)
    for precision in ("float32", "bf16"):
        plain = Network(
            OneLayer().eval(), {}, device=CPU, precision=precision, inputs=MANY  # type: ignore[arg-type]
        )  # fmt: skip
        assert way(plain) == precision
    assert machine.compilings == 0 and not stored.exists()


def test_compiled_features_say_so_and_measure_their_error(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch)
    fast = auto(MANY)
    assert fast.card == {"name": "x", "precision": "bf16", "compiled": True}
    rows = fast(torch.randn(6, 96, 64, generator=torch.manual_seed(1)))
    assert rows.shape == (6, 8) and fast.error is not None and 1e-7 < fast.error < 1e-3


def test_without_a_compiler_it_says_so_once_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    machine = Machine(monkeypatch)
    with caplog.at_level(logging.WARNING, "avel"):
        assert way(auto(10.0)) == "bf16" and not caplog.messages
        assert way(auto(MANY)) == way(auto(MANY)) == "bf16"
    (message,) = caplog.messages
    assert "layer runs uncompiled: the C++ compiler no-such-compiler isn't there" in message
    assert machine.compilings == 0
    monkeypatch.setenv("CXX", "true")  # one was installed
    assert way(auto(MANY)) == "bf16 compiled"


@pytest.mark.parametrize(
    "error", [RuntimeError("cc1plus:\nkilled"), OSError("no header"), OSError()]
)
def test_a_compiler_that_fails_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    machine = Machine(monkeypatch, compiling=error)
    with caplog.at_level(logging.WARNING, "avel"):
        assert way(auto(MANY)) == way(auto(MANY)) == "bf16"
    (message,) = caplog.messages
    expected = str(error).partition("\n")[0] or "OSError"
    assert f"layer runs uncompiled: {expected};" in message and machine.compilings == 1


def test_where_nothing_can_be_remembered_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch, stored: Path
) -> None:
    stored.parent.write_text("a file in the folder's place")
    machine = Machine(monkeypatch)
    assert way(auto(MANY)) == "bf16" and machine.compilings == 0


def test_a_gpu_is_left_to_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    options = {"batch": 4, "inputs": MANY, "seconds": 1.0}
    gpu = torch.device("cuda")
    assert speed.compiled_if_faster(OneLayer(), gpu, **options) is None and not machine.compilings


# --- the stored file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"[1]",
        b"[" * 100_000,
        b'{"KEY": 1.8}',  # an older avel's
        b'{"KEY": {}}',
        b'{"KEY": {"float32": 1.0}}',
        b'{"KEY": {"float32": 1.0, "bf16": "2"}}',
        b'{"KEY": {"float32": 1.0, "bf16": 0.0}}',
        b'{"KEY": {"float32": 1.0, "bf16": -1.0}}',
        b'{"KEY": {"float32": 1.0, "bf16": NaN}}',
        b'{"KEY": {"float32": 1.0, "bf16": 1e999}}',
        b'{"KEY": {"float32": 1.0, "bf16": true}}',
        b'{"KEY": {"eager": 1.0, "compiled": 1.0, "compiling": 1.0}}',
        b'{"KEY": {"float32": 1.0, "bf16": 1.0}}' + b" " * 2**20,
    ],
)
def test_a_damaged_measurement_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, stored: Path, content: bytes
) -> None:
    Machine(monkeypatch)
    backbone = OneLayer().eval()
    key = speed._key(backbone, CPU)
    stored.parent.mkdir(parents=True)
    stored.write_bytes(content.replace(b"KEY", key.encode()))
    fast = OneLayer().eval().to(torch.bfloat16)
    assert eager_speed(backbone, fast, CPU) == {"float32": 2.0, "bf16": 1.0}
    assert json.loads(stored.read_text()) == {key: {"float32": 2.0, "bf16": 1.0}}


def test_a_measurement_of_the_other_kind_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, stored: Path
) -> None:
    machine = Machine(monkeypatch)
    assert way(auto(MANY)) == "bf16 compiled"
    speeds = json.loads(stored.read_text())
    swapped = dict(zip(speeds, reversed(speeds.values()), strict=True))
    stored.write_text(json.dumps(swapped))
    assert way(auto(MANY)) == "bf16 compiled" and machine.compilings == 2
    assert json.loads(stored.read_text()) == speeds


def test_the_file_is_bounded_and_the_newest_stay(
    monkeypatch: pytest.MonkeyPatch, stored: Path
) -> None:
    Machine(monkeypatch)
    monkeypatch.setattr(speed, "_MOST", 3)
    stored.parent.mkdir(parents=True)
    old = {str(i): {"float32": 1.0, "bf16": 1.0} for i in range(5)} | {"x" * 501: {}}
    stored.write_text(json.dumps(old))
    eager_speed(OneLayer().eval(), OneLayer().eval(), CPU)
    assert list(json.loads(stored.read_text()))[:2] == ["3", "4"]
    assert len(json.loads(stored.read_text())) == 3
    assert not list(stored.parent.glob("*.tmp*"))


def test_measuring_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    backbone = OneLayer().eval()
    measured = eager_speed(backbone, backbone, CPU)
    assert set(measured) == {"float32", "bf16"} and min(measured.values()) > 0
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_really_tried(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(speed, "TRIAL", 0.0)
    monkeypatch.setattr(network, "WORTH", 0.0)
    fast = auto(1.0)
    assert not fast.compiled  # one input doesn't pay
    eager, tried = json.loads(stored.read_text()).values()
    assert set(eager) == {"float32", "bf16"} and set(tried) == {"eager", "compiled", "compiling"}
