"""Keys by which two phrases are the same: case, punctuation, plurals, endings such as "-ing"."""

from __future__ import annotations

import re
from functools import lru_cache

#: Plurals that no rule finds.
_IRREGULAR = {
    "buses": "bus", "children": "child", "feet": "foot", "geese": "goose", "halves": "half",
    "hooves": "hoof", "knives": "knife", "leaves": "leaf", "men": "man", "mice": "mouse",
    "teeth": "tooth", "wolves": "wolf", "women": "woman",
}  # fmt: skip
#: Words that don't distinguish events.
_EMPTY = {"a", "an", "the", "of", "and", "sound", "people", "person", "someone", "somebody"}
_VOWEL = re.compile(r"[aeiouy]")


@lru_cache(maxsize=2**16)
def phrase_key(phrase: str) -> str:
    """The phrase in lower case, without punctuation, its words in the singular."""
    words = re.findall(r"\w+", re.sub(r"['’]s\b", "", phrase.replace("_", " ").casefold()))
    return " ".join(map(_singular, words))


@lru_cache(maxsize=2**16)
def stem_key(phrase: str) -> tuple[str, ...]:
    """The stems of the phrase's words in alphabetical order: "barking dogs" is "dog bark"."""
    return tuple(sorted(_stem(w) for w in phrase_key(phrase).split() if w not in _EMPTY))


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


def _stem(word: str) -> str:
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= 3 and _VOWEL.search(rest):
            word = rest
            break
    word = word.removesuffix("e")
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word
