"""Time arithmetic: what must hold for every duration, step and rate."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avel import clock

durations = st.floats(0, 200_000, allow_nan=False)
steps = st.sampled_from([0.1, 0.25, 0.5, 0.96, 1.0, 1.5, 2.0, 10.0])
rates = st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000])


@given(durations, steps)
def test_segments_cover_the_file_but_for_codec_padding(duration: float, step: float) -> None:
    count = clock.segment_count(duration, step)
    if duration > 1e-6:
        assert count >= 1
        assert (count - 1) * step <= duration + 1e-6 * step
        assert duration - count * step < clock.TAIL * step + 1e-5
    else:
        assert count == 0


@given(st.integers(1, 100_000), steps)
def test_whole_steps_give_whole_counts(count: int, step: float) -> None:
    assert clock.segment_count(count * step, step) == count


@pytest.mark.parametrize(
    ("duration", "count"),
    [(10.0, 10), (10.0078, 10), (10.09, 10), (10.1, 11), (9.95, 10), (0.03, 1), (1.2, 2), (0, 0)],
)
def test_segment_count_by_hand(duration: float, count: int) -> None:
    assert clock.segment_count(duration) == count


@pytest.mark.parametrize(
    ("duration", "step"), [(-1, 1), (math.nan, 1), (math.inf, 1), (1, 0), (1, -1), (1, math.nan)]
)
def test_nonsense_is_refused(duration: float, step: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        clock.segment_count(duration, step)


@given(st.floats(0.01, 5000), steps)
def test_bounds_meet_and_end_within_the_file(duration: float, step: float) -> None:
    count = clock.segment_count(duration, step)
    bounds = [clock.segment_bounds(i, step, duration) for i in range(min(count, 50))]
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    assert all(start <= end for start, end in bounds)
    assert bounds[0][0] == 0
    assert clock.segment_bounds(count - 1, step, duration)[1] <= max(duration, count * step)


@given(st.integers(0, 100_000), steps, st.floats(0, 0.999))
def test_segment_at_is_the_inverse_of_bounds(index: int, step: float, within: float) -> None:
    assert clock.segment_at(index * step, step) == index
    assert clock.segment_at((index + within) * step, step) in (index, index + (within > 0.99))


@given(st.integers(0, 10_000), st.integers(1, 64), steps)
def test_frame_times_are_even_and_inside(index: int, count: int, step: float) -> None:
    times = clock.frame_times(index, count, step)
    assert len(times) == count and times[0] == index * step
    assert all(index * step <= t < (index + 1) * step for t in times)
    gaps = [b - a for a, b in pairwise(times)]
    assert all(g == pytest.approx(step / count, abs=1e-8) for g in gaps)


def test_frame_times_are_those_of_the_published_features() -> None:
    """int(l * interval + i / 16 * interval) frames at 30 a second, 10 seconds."""
    frames, interval = 300, 30
    for second in range(10):
        published = [int(second * interval + i / 16 * interval) for i in range(16)]
        ours = [math.floor(t * frames / 10 + 1e-9) for t in clock.frame_times(second, 16)]
        assert ours == published


@given(st.integers(0, 200_000), steps, rates)
def test_sample_bounds_meet(index: int, step: float, rate: int) -> None:
    first, end = clock.sample_bounds(index, step, rate)
    assert end == clock.sample_bounds(index + 1, step, rate)[0]
    assert abs((end - first) - step * rate) <= 1
    assert abs(first / rate - index * step) <= 0.5 / rate + 1e-9


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 60))
def test_windows_cover_everything(count: int, length: int, hop: int) -> None:
    starts = clock.windows(count, length, hop)
    assert starts == sorted(set(starts)) and starts[0] == 0
    if count > length:
        assert starts[-1] + length == count
    if hop <= length:
        covered = {i for s in starts for i in range(s, min(s + length, count))}
        assert covered == set(range(count))


@given(st.integers(0, 9), st.integers(1, 10))
def test_whole_second_events_cover_exactly_their_seconds(start: int, length: int) -> None:
    end = min(10, start + length)
    labels = clock.event_labels(start, end, 10)
    assert [i for i, on in enumerate(labels) if on] == list(range(start, end))


def test_instants_of_frames() -> None:
    expected = pytest.approx([0.2 * k for k in range(10)])
    assert list(clock.frame_instants(0.0, 2.0, 5)) == expected
    assert list(clock.frame_instants(3.0, 3.1, 5)) == [3.0]


@given(st.lists(st.integers(0, 3), max_size=40))
def test_runs_put_together_again(ids: list[int]) -> None:
    runs = list(clock.runs(ids))
    assert [i for first, end, i in runs for _ in range(first, end)] == ids
    assert all(a[2] != b[2] and a[1] == b[0] for a, b in pairwise(runs))


@given(st.integers(0, 10**9))
def test_times_written_and_read_again(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    for hours in (True, False):
        text = clock.format_time(seconds, hours=hours)
        assert clock.parse_time(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3725.5, "01:02:05.500"), (59.9996, "00:01:00.000"), (-1, "00:00:00.000")],
)
def test_format_time_by_hand(seconds: float, text: str) -> None:
    assert clock.format_time(seconds) == text


def test_format_time_without_hours_or_decimals() -> None:
    assert clock.format_time(3725.5, hours=False) == "62:05.500"
    assert clock.format_time(61, decimals=0) == "00:01:01"


@given(st.floats(0, allow_nan=False, allow_infinity=False))
def test_every_time_returns_bit_for_bit(seconds: float) -> None:
    text = clock.time_text(seconds)
    assert clock.parse_time(text) == seconds
    assert "e" not in text and "," not in text
    assert clock.parse_time(repr(seconds)) == seconds  # as other programs write it


@pytest.mark.parametrize(
    ("seconds", "text"), [(1e-05, "0.00001"), (8.325581395348838, "8.325581395348838"), (3, "3.0")]
)
def test_time_text_by_hand(seconds: float, text: str) -> None:
    assert clock.time_text(seconds) == text


@pytest.mark.parametrize(
    "text", ["", "a", "1:2:3:4", "-1", "1.5:2", "nan", "inf", "1e999", "1_0", "1e", ".", "٣"]
)
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        clock.parse_time(text)


def test_parse_time_by_hand() -> None:
    assert clock.parse_time(" 1:02.5 ") == 62.5
    assert clock.parse_time("0:01:02,5") == 62.5
    assert clock.parse_time("1,5E-05") == 1.5e-05
    assert clock.parse_time("1:00:00.1") == 3600.1


@given(st.floats(0, 1e5), st.floats(0, 1e3))
def test_lasts_forgives_rounding(start: float, length: float) -> None:
    assert clock.lasts(start, start + length, length)
    assert not clock.lasts(start, start + length, length + 0.01)


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_middle_and_share(start: float, length: float) -> None:
    assert start <= clock.middle(start, start + length) <= start + length
    assert 0 <= clock.share(start, length) <= 1


def test_segments_to_seconds() -> None:
    assert clock.segments_to_seconds(3) == 3.0
    assert clock.segments_to_seconds(2.5, step=0.5) == 1.25


@pytest.mark.parametrize(
    ("text", "fps", "frames"),
    [
        ("00:00:00:00", 25, 0), ("01:00:00:00", 25, 90_000), ("00:00:01:12", 24, 36),
        ("01:00:00:00", 30_000 / 1001, 108_000),  # it counts every frame, so it falls behind
        ("00:59:58;10", 30_000 / 1001, 107_842), ("01:00:00;00", 30_000 / 1001, 107_892),
        ("00:10:00;00", 60_000 / 1001, 35_964),
    ],
)  # fmt: skip
def test_timecodes_by_hand(text: str, fps: float, frames: int) -> None:
    assert clock.timecode_clock(text, fps).zero * fps == pytest.approx(frames)


@given(
    st.integers(0, 10**7),
    st.sampled_from([(25, False), (30_000 / 1001, False), (30_000 / 1001, True),
                     (60_000 / 1001, True), (24_000 / 1001, False)]),
)  # fmt: skip
def test_timecodes_there_and_back(frame: int, kind: tuple[float, bool]) -> None:
    fps, drop = kind
    text = clock.format_timecode(frame, fps, drop=drop)
    assert clock.drops(text) == drop
    assert round(clock.timecode_clock(text, fps).zero * fps) == frame


def test_a_timecode_drops_numbers() -> None:
    ntsc = 30_000 / 1001
    assert [clock.format_timecode(n, ntsc, drop=True) for n in (1799, 1800, 17_981, 17_982)] == [
        "00:00:59;29", "00:01:00;02", "00:09:59;29", "00:10:00;00",
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "fps"), [("", 25), ("1:2:3", 25), ("x", 25), ("0:0:0:0", 0)])
def test_no_timecode(text: str, fps: float) -> None:
    with pytest.raises(ValueError, match="no timecode"):
        clock.timecode_clock(text, fps)


@given(st.floats(-1e5, 1e5), st.integers(0, 10**9))
def test_a_clock_there_and_back(zero: float, ticks: int) -> None:
    seconds = ticks / 1e6
    other = clock.Clock(zero)
    assert other.to_file(other.from_file(seconds)) == pytest.approx(seconds, abs=1e-6)
    assert clock.Clock().to_file(seconds) == seconds
