"""Tian et al. 2018, Audio-Visual Event Localization in Unconstrained Videos, and its supplement."""

from __future__ import annotations

from collections.abc import Iterator

from avel.papers.rows import BY_CLASS, SEGMENT, Row, cml_values

PAPER, MODEL = "tian2018", "av"
#: What each table is about.
TITLES = {
    "1": "inputs, supervised and weak", "2": "fusions at three stages",
    "3": "cross-modality localization", "6.3": "temporal labelling",
    "S1": "by class, with C3D", "S2": "C3D", "S3": "attention over the sound's maps",
}  # fmt: skip
#: Table 1, in percent: sel, wsel; by `inputs`.
_INPUTS = {
    "a": (59.5, 53.4), "v": (55.3, 52.9), "v-att": (58.6, 55.6),
    "a+v": (71.4, 63.7), "a+v-att": (72.7, 66.7),
}  # fmt: skip
#: Table 2, in percent: early, late, decision; by `fusion`.
_FUSIONS: dict[str, tuple[float | None, float, float | None]] = {
    "additive": (59.9, 71.3, 70.5), "maxpool": (67.9, 71.4, 64.5), "gated": (67.9, 70.5, 65.2),
    "mb": (69.2, 70.5, 64.6), "gmu": (70.5, 71.6, 67.6), "gmb": (70.2, 71.0, 67.3),
    "concat": (61.0, 72.7, 69.7), "mrn": (69.8, 70.8, 63.8), "dmrn": (68.0, 73.1, 70.4),
    "dmrfe": (None, 73.3, None),
}  # fmt: skip
#: Table S1, in percent by class: the names it gives AVE's classes, in their order, and by `inputs`
#: the share of right seconds among the class's clips, background counted like any other (over all
#: clips they are table S2's figures, but for V, where they come to
#: 54.3 and S2 says 55.3).
CLASS_NAMES = (
    "bell", "man", "dog", "plane", "car", "woman", "copt.", "violin", "flute", "ukul.", "frying",
    "truck", "shofar", "moto.", "guitar", "train", "clock", "banjo", "goat", "baby", "bus",
    "chain.", "cat", "horse", "toilet", "rodent", "acco.", "mand.",
)  # fmt: skip
_CLASSES = {
    "a": (83.9, 54.1, 49.4, 51.1, 40.0, 36.5, 44.1, 66.1, 81.8, 78.1, 77.8, 20.0, 61.0, 34.4, 70.6,
          65.3, 81.3, 84.4, 53.0, 61.3, 8.3, 68.1, 30.0, 8.3, 70.6, 49.0, 60.7, 64.7),
    "v": (76.7, 40.6, 44.1, 68.3, 60.6, 24.7, 50.6, 44.4, 44.7, 17.5, 70.6, 69.2, 40.0, 66.7, 57.8,
          73.5, 79.4, 45.6, 62.0, 51.3, 60.0, 73.1, 23.3, 35.0, 60.6, 42.0, 66.0, 41.3),
    "v-c3d": (61.7, 33.5, 38.2, 77.2, 57.2, 36.4, 55.3, 40.0, 23.5, 14.4, 53.3, 42.3, 48.0, 70.0,
              57.8, 77.1, 78.1, 40.6, 57.0, 17.5, 43.3, 43.1, 11.7, 13.3, 72.8, 9.0, 34.0, 22.7),
    "v+c3d": (76.7, 41.2, 38.8, 77.2, 60.0, 51.2, 57.1, 58.3, 40.0, 42.5, 75.6, 80.0, 60.0, 72.2,
              48.9, 68.8, 66.3, 61.7, 72.0, 20.0, 56.7, 73.8, 21.7, 20.0, 71.1, 48.0, 64.0, 39.3),
    "a+v": (84.4, 57.6, 55.3, 77.2, 56.7, 72.4, 53.5, 80.6, 87.6, 80.0, 80.0, 75.4, 60.0, 68.9,
            63.9, 88.8, 81.3, 76.1, 75.0, 57.5, 41.7, 83.1, 61.7, 33.3, 83.9, 57.0, 74.7, 63.3),
    "a+v-c3d": (83.3, 62.9, 53.5, 72.8, 49.4, 81.8, 61.2, 72.2, 88.2, 73.8, 80.0, 40.0, 62.0, 74.4,
                69.4, 82.4, 88.8, 79.4, 44.0, 68.8, 40.0, 76.9, 38.3, 20.0, 76.1, 53.0, 64.7, 72.7),
    "a+v+c3d": (85.0, 50.6, 57.1, 76.1, 66.7, 71.2, 67.1, 71.2, 90.6, 75.6, 85.6, 78.5, 62.0, 73.3,
                70.0, 85.3, 88.1, 67.8, 60.0, 67.5, 5.0, 82.5, 33.3, 18.3, 88.3, 70.0, 81.3, 66.7),
}  # fmt: skip
#: Table S2, in percent, by `inputs`; what has no C3D in it is table 1's.
_MOTION = {
    "a": 59.5, "v": 55.3, "v-c3d": 46.4, "v+c3d": 57.9, "a+v": 71.4, "a+v-c3d": 68.7,
    "a+v+c3d": 71.6,
}  # fmt: skip
#: Table S3, in percent, by `inputs`; A' are VGGish's last pooling maps.
_SOUND_MAPS = {
    "amaps": ("A'", 54.3), "amaps-att": ("A'-att", 54.1), "v": ("V", 55.3),
    "v-att": ("V-att", 58.5), "amaps+v": ("A'+V", 70.2), "amaps+v-co-att": ("A'+V-co-att", 69.9),
}  # fmt: skip


def rows() -> Iterator[Row]:
    """Every row, as printed."""
    for inputs, (sel, wsel) in _INPUTS.items():
        name = _name(inputs)
        yield Row(PAPER, "1", name, MODEL, "sel", {"inputs": inputs}, {SEGMENT: sel})
        yield Row(PAPER, "1", f"W-{name}", MODEL, "wsel", {"inputs": inputs}, {SEGMENT: wsel})
    for column, stage in enumerate(("early", "late", "decision")):
        for fusion, values in _FUSIONS.items():
            if (value := values[column]) is not None:
                options, name = {"fusion": fusion, "stage": stage}, f"{stage}:{fusion}"
                yield Row(PAPER, "2", name, MODEL, "sel", options, {SEGMENT: value})
    for fusion in ("mrn", "dmrn"):  # stacked, as the paper says they can be; it prints no number
        stacked = {"fusion": fusion, "stage": "late", "blocks": 2}
        yield Row(PAPER, "2", f"late:{fusion}, 2 blocks (ours)", MODEL, "sel", stacked, {})
    yield Row(PAPER, "3", "AVDLN", "avdln", "cml", {}, cml_values(44.8, 35.6), mean_is_ours=True)
    yield Row(PAPER, "3", "DCCA", "dcca", "cml", {}, cml_values(34.8, 34.1), mean_is_ours=True)
    yield Row(PAPER, "6.3", "ED-TCN", "ed_tcn", "sel", {}, {SEGMENT: 46.9})
    for inputs, by_class in _CLASSES.items():
        accuracies = {BY_CLASS + c: v for c, v in zip(CLASS_NAMES, by_class, strict=True)}
        yield Row(PAPER, "S1", _name(inputs), MODEL, "sel", {"inputs": inputs}, accuracies)
    for inputs, value in _MOTION.items():
        yield Row(PAPER, "S2", _name(inputs), MODEL, "sel", {"inputs": inputs}, {SEGMENT: value},
                  copied=inputs in _INPUTS)  # fmt: skip
    for inputs, (name, value) in _SOUND_MAPS.items():
        yield Row(PAPER, "S3", name, MODEL, "sel", {"inputs": inputs}, {SEGMENT: value},
                  copied=inputs == "v")  # fmt: skip


def _name(inputs: str) -> str:
    """``"a+v-att"`` as the paper writes it."""
    return inputs.upper().replace("ATT", "att").replace("C3D", "c3d")
