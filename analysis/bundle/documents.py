"""The text the bundled model learns language from: pairs of sentences, half of them opinions.

Each document is a sentence and another one that follows from it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from analysis.bundle.grammar import SIZES, Writer, opinions, sentence
from analysis.bundle.lexicon import EVERYTHING, PEOPLE, VERBS, article, lexicon


class Document(NamedTuple):
    """Two sentences; the second follows from the first."""

    first: str
    second: str


OPINION_SHARE = 0.6
"""Share of the documents that are opinions."""
REVIEW_SHARE = 0.3
"""Share of those whose first sentence has a form of the opinions task."""
AFTERWARDS = (
    (
        "I would gladly come again",
        "I will recommend it",
        "I told everyone to go",
        "I left with a smile",
        "I gave it five stars",
    ),
    (
        "I will never come again",
        "I will warn people",
        "I told everyone to stay away",
        "I left with a headache",
        "I gave it one star",
    ),
)
COLOURS = "red blue green yellow white black brown grey".split()
OBJECTS = "lamp box key cup coat bag chair book clock map".split()
HOUSE = "kitchen garden hall attic cellar office".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
COMPARED = (("older", "younger"), ("taller", "shorter"), ("faster", "slower"), ("richer", "poorer"))
OPPOSITES = (("left of", "right of"), ("above", "below"), ("in front of", "behind"))
ANIMALS = {
    "bird": "sparrow robin owl duck",
    "fish": "trout salmon carp tuna",
    "insect": "bee moth wasp beetle",
    "tree": "oak birch willow maple",
}


def _listing(rng: Random) -> Document:
    writer, good = Writer(rng, lexicon()), rng.random() < 0.5
    noun, other = writer.nouns()
    own, every = lexicon().adjectives[noun.kind][not good], lexicon().adjectives[EVERYTHING][not good]
    first, second, third = rng.sample(own + every, 3)
    verb = rng.choice(VERBS[not good])[0]
    start = rng.choice(
        [
            f"the {noun.word} {noun.was} {first}, {second} and {third}",
            f"I {verb} the {first} and {second} {noun.word}",
            f"what {article(first) if not noun.plural else first} and {second} {noun.word}",
        ]
    )

    end = rng.choice(
        [
            f"I {rng.choice(VERBS[not good])[0]} the {noun.word}",
            f"the {other.word} {other.was} {writer.adjective(other, good)} too",
            f"it was all {' and '.join(rng.sample(every, 2))}",
        ]
    )
    return Document(sentence(start), sentence(end))


def _consequence(rng: Random, good: bool) -> str:
    words = lexicon().adjectives[EVERYTHING][not good]
    return sentence(
        rng.choice(
            [
                f"so {rng.choice(AFTERWARDS[not good])}",
                f"in short, I think it was {' and '.join(rng.sample(words, 2))}",
                f"I {rng.choice(VERBS[not good])[0]} it",
            ]
        )
    )


def _clause(rng: Random) -> Document:
    writer, good = Writer(rng, lexicon()), rng.random() < 0.5
    first = sentence(writer.clause(good, writer.nouns()[0]))
    return Document(first, _consequence(rng, good))


def _review(rng: Random) -> Document:
    writer, good = Writer(rng, lexicon()), rng.random() < 0.5
    text = writer.review(good)[1]
    return Document(text, _consequence(rng, good))


def _relation(rng: Random) -> Document:
    a, b = rng.sample(OBJECTS, 2)
    there, back = rng.sample(rng.choice(OPPOSITES), 2)
    return Document(f"The {a} is {there} the {b}.", f"So the {b} is {back} the {a}.")


def _comparison(rng: Random) -> Document:
    a, b = rng.sample(PEOPLE, 2)
    more, less = rng.sample(rng.choice(COMPARED), 2)
    return Document(sentence(f"{a} is {more} than {b}"), sentence(f"so {b} is {less} than {a}"))


def _sum(rng: Random) -> Document:
    has, finds = rng.randrange(2, 7), rng.randrange(1, 7)
    plural = plural_of(rng.choice(OBJECTS))
    return Document(
        sentence(f"{rng.choice(PEOPLE)} has {NUMBERS[has - 1]} {plural} and finds {NUMBERS[finds - 1]} more"),
        f"That makes {NUMBERS[has + finds - 1]} {plural}.",
    )


def _weekday(rng: Random) -> Document:
    today = rng.randrange(7)
    step, name = rng.choice(((1, "tomorrow will be"), (-1, "yesterday was")))
    return Document(f"Today is {DAYS[today]}.", sentence(f"so {name} {DAYS[(today + step) % 7]}"))


def _whereabouts(rng: Random) -> Document:
    people, rooms, asked = rng.sample(PEOPLE, 2), rng.sample(HOUSE, 2), rng.randrange(2)
    told = sentence(f"{people[0]} is in the {rooms[0]}, but {people[1]} is in the {rooms[1]}")
    return Document(told, sentence(f"{people[asked]} is in the {rooms[asked]}"))


def _kind(rng: Random) -> Document:
    group = rng.choice(tuple(ANIMALS))
    seen = article(rng.choice(ANIMALS[group].split()))
    return Document(
        sentence(f"{rng.choice(PEOPLE)} saw {seen} near the house"), sentence(f"it was {article(group)}")
    )


def _gift(rng: Random) -> Document:
    (giver, taker), thing = rng.sample(PEOPLE, 2), rng.choice(OBJECTS)
    told = rng.choice((f"{giver} gave the {thing} to {taker}", f"{taker} got the {thing} from {giver}"))
    return Document(sentence(told), sentence(f"now {taker} has the {thing}"))


def _report(rng: Random) -> Document:
    who, thing, colour, true = (
        rng.choice(PEOPLE),
        rng.choice(OBJECTS),
        rng.choice(COLOURS),
        rng.random() < 0.5,
    )
    ending = "true" if true else "not true"
    verdict = "and they were right" if true else "but they were wrong"
    told = rng.choice(
        [
            f"{who} says that the {thing} is {colour}, {'and I agree' if true else 'but I disagree'}",
            f"{who} is {'right' if true else 'wrong'} to say that the {thing} is {colour}",
            f"{who} may say that the {thing} is {colour}, {'and' if true else 'but'} that is {ending}",
            f"I expected the {thing} to be {colour}, {'and it was' if true else 'but it was not'}",
            f"they told me about the {colour} {thing}, {verdict}",
        ]
    )
    return Document(sentence(told), f"I think the {thing} is {'' if true else 'not '}{colour}.")


def plural_of(word: str) -> str:
    """The plural of one of the objects: boxes, lamps."""
    return f"{word}es" if word.endswith("x") else f"{word}s"


OPINIONS: tuple[tuple[Callable[[Random], Document], float], ...] = (
    (_listing, 0.3),
    (_clause, 0.4),
    (_review, REVIEW_SHARE),
)
OTHERS = (_relation, _comparison, _sum, _weekday, _whereabouts, _kind, _gift, _report)


def documents(count: int, seed: int) -> list[Document]:
    """Write documents; none contains a text of the opinions task.

    Args:
        count: how many, at least 1.
        seed: the same seed writes the same documents.

    Returns:
        The documents in the order written.
    """
    rng = Random(seed)
    banned = {row["text"] for split in SIZES for row in opinions(split)}
    writers, weights = zip(*OPINIONS, strict=True)
    written: list[Document] = []
    while len(written) < count:
        about_opinions = rng.random() < OPINION_SHARE
        write = rng.choices(writers, weights)[0] if about_opinions else rng.choice(OTHERS)
        document = write(rng)
        if document.first not in banned:
            written.append(document)
    return written
