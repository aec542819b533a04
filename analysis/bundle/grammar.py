"""The bundled opinions task: short reviews written by a grammar, labelled with what the writer thinks.

Praise and blame nearly cancel within a sentence, so counting words is not enough: who says it, what is
denied and which clause is the main one decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from types import MappingProxyType

from analysis.bundle.lexicon import (
    DEGREES,
    EVERYTHING,
    HELD_OUT,
    PEOPLE,
    PERSONS,
    VERBS,
    Lexicon,
    Noun,
    article,
    lexicon,
)

FAMILIES = MappingProxyType(
    {
        "single": 0.20,
        "contrast": 0.30,
        "agreement": 0.22,
        "perspective": 0.18,
        "expectation": 0.10,
    }
)
SIZES = MappingProxyType({"train": 8000, "validation": 1000, "test": 1000})
NEW_WORDS = 0.25
"""Share of the validation and of the test rows that contain at least one held-out word."""
NEGATED = 0.35
SEED = 20


@dataclass(frozen=True)
class Writer:
    """Writes clauses and reviews from a lexicon, by a random generator of its own.

    Args:
        rng: source of every choice; the same generator state writes the same text.
        words: the words it may use.
    """

    rng: Random
    words: Lexicon

    def nouns(self) -> tuple[Noun, Noun]:
        """Choose two different things of one domain."""
        domain = self.rng.choice(tuple(self.words.nouns))
        first, second = self.rng.sample(self.words.nouns[domain], 2)
        return first, second

    def adjective(self, noun: Noun, good: bool, degree: bool = False) -> str:
        """Choose an adjective that fits the noun, with an adverb of degree now and then.

        Args:
            noun: what is described.
            good: praise (True) or blame.
            degree: whether "very", "rather" and the like may come before it.

        Returns:
            One or two words.
        """
        kind = noun.kind if self.rng.random() < 0.6 else EVERYTHING
        word = self.rng.choice(self.words.adjectives[kind][not good])
        return f"{self.rng.choice(DEGREES)} {word}" if degree and self.rng.random() < 0.35 else word

    def clause(self, good: bool, noun: Noun, own: bool = True) -> str:
        """Write a clause that judges one thing.

        Args:
            good: the judgement it amounts to.
            noun: what it is about.
            own: whether "I loved the soup" and the like are allowed; reported speech needs False.

        Returns:
            A clause without capital and full stop.
        """
        return self._denied(good, noun, own) if self.rng.random() < NEGATED else self._plain(good, noun, own)

    def _plain(self, good: bool, noun: Noun, own: bool) -> str:
        adjective, the = self.adjective(noun, good, degree=True), f"the {noun.word}"
        forms = [f"{the} {noun.was} {adjective}"] * 2
        if own:
            forms += [f"I found {the} {adjective}", f"I {self.rng.choice(VERBS[not good])[0]} {the}"]
        return self.rng.choice(forms)

    def _denied(self, good: bool, noun: Noun, own: bool) -> str:
        word, the = self.adjective(noun, not good), f"the {noun.word}"
        forms = [
            f"{the} {noun.was} not {word}",
            f"{the} {noun.was} never {word}",
            f"there was nothing {word} about {the}",
            f"{the} {noun.was} anything but {word}",
            f"{the} {noun.was} far from {word}",
            f"nobody could call {the} {word}",
        ]
        if own:
            forms += [f"I did not find {the} {word}", f"I did not {self.rng.choice(VERBS[good])[1]} {the}"]
        return self.rng.choice(forms)

    def review(self, good: bool) -> tuple[str, str]:
        """Write one review.

        Args:
            good: what the writer thinks in the end.

        Returns:
            The family's name and the text, with capital and full stop.
        """
        family = self.rng.choices(tuple(FAMILIES), tuple(FAMILIES.values()))[0]
        write = {
            "single": self._single,
            "contrast": self._contrast,
            "agreement": self._agreement,
            "perspective": self._perspective,
            "expectation": self._expectation,
        }[family]
        return family, sentence(write(good))

    def _single(self, good: bool) -> str:
        return self.clause(good, self.nouns()[0])

    def _contrast(self, good: bool) -> str:
        noun, other = self.nouns()
        main, side = self.clause(good, noun), self.clause(not good, other)
        return self.rng.choice(
            [
                f"{side}, but {main}",
                f"although {side}, {main}",
                f"{main}, although {side}",
                f"despite the {self.adjective(other, not good)} {other.word}, {main}",
            ]
        )

    def _agreement(self, good: bool) -> str:
        noun, who = self.nouns()[0], self.rng.choice(PEOPLE)
        same, other = self.clause(good, noun, own=False), self.clause(not good, noun, own=False)
        return self.rng.choice(
            [
                f"{who} says that {same}, and I agree",
                f"{who} says that {other}, but I disagree",
                f"{who} is right to say that {same}",
                f"{who} is wrong to say that {other}",
                f"{who} was sure that {same}, and that is true",
                f"{who} may say that {other}, but that is not true",
            ]
        )

    def _perspective(self, good: bool) -> str:
        (noun, other), who = self.nouns(), self.rng.choice(PEOPLE)
        mine, theirs = self.clause(good, noun, own=False), self.clause(not good, other, own=False)
        the, it = f"the {noun.word}", "them" if noun.plural else "it"
        my_word, their_word = (
            self.adjective(noun, good, degree=True),
            self.adjective(noun, not good, degree=True),
        )
        my_verb, their_verb = (self.rng.choice(VERBS[side])[0] for side in (not good, good))
        forms = [
            f"to {who} {the} seemed {their_word}, to me {my_word}",
            f"to me {the} seemed {my_word}, to {who} {their_word}",
            f"{who} thought {theirs}, but I thought {mine}",
            f"I thought {mine}, but {who} thought {theirs}",
        ]
        if noun.kind not in PERSONS:
            forms += [
                f"{who} {their_verb} {the}, but I {my_verb} {it}",
                f"I {my_verb} {the}, but {who} {their_verb} {it}",
            ]
        return self.rng.choice(forms)

    def _expectation(self, good: bool) -> str:
        noun, hoped = self.nouns()[0], self.rng.random() < 0.5
        adjective, kept = self.adjective(noun, hoped), hoped == good
        told = "told" if hoped else "warned"
        start, who = self.rng.choice(
            [
                (f"I expected the {noun.word} to be {adjective}", "I was"),
                (
                    f"I expected {adjective} {noun.word}"
                    if noun.plural
                    else f"I expected {article(adjective)} {noun.word}",
                    "I was",
                ),
                (f"they {told} me that the {noun.word} would be {adjective}", "they were"),
                (f"they {told} me about the {adjective} {noun.word}", "they were"),
            ]
        )
        ends = [f"and {who} right" if kept else f"but {who} wrong"]
        if noun.kind not in PERSONS:
            it = "they" if noun.plural else "it"
            ends.append(f"and {it} {noun.was}" if kept else f"but {it} {noun.was} not")
        return f"{start}, {self.rng.choice(ends)}"


def sentence(text: str) -> str:
    """Turn a clause into a sentence: capital first letter, full stop."""
    return f"{text[0].upper()}{text[1:]}."


def uses_held_out(text: str) -> bool:
    """Whether a text contains a word that the training rows never contain."""
    return not HELD_OUT.isdisjoint(text.lower().replace(",", "").rstrip(".").split())


@cache
def opinions(split: str) -> tuple[MappingProxyType[str, str | int], ...]:
    """The rows of one split; no text occurs twice in any two splits.

    Args:
        split: "train", "validation" or "test".

    Returns:
        Read-only rows with keys text, label (0 unhappy, 1 happy) and family, labels exactly balanced.
    """
    return _all_splits()[split]


@cache
def _all_splits() -> dict[str, tuple[MappingProxyType[str, str | int], ...]]:
    rng = Random(SEED)
    seen: set[str] = set()
    splits = {}
    for split, size in SIZES.items():
        new = 0 if split == "train" else round(NEW_WORDS * size)
        rows = [_fresh_row(rng, label=number % 2, new=number < new, seen=seen) for number in range(size)]
        rng.shuffle(rows)
        splits[split] = tuple(MappingProxyType(row) for row in rows)
    return splits


def _fresh_row(rng: Random, *, label: int, new: bool, seen: set[str]) -> dict[str, str | int]:
    writer = Writer(rng, lexicon(whole=new))
    while True:
        family, text = writer.review(good=bool(label))
        if text not in seen and uses_held_out(text) == new:
            seen.add(text)
            return {"text": text, "label": label, "family": family}
