"""The words of the bundled opinions task: what can be talked about, and what fits being said about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import MappingProxyType


@dataclass(frozen=True)
class Noun:
    """One thing that can be judged.

    Args:
        word: the noun as written after "the".
        kind: key of `ADJECTIVES`; decides which adjectives fit.
        plural: whether the word takes "were".
    """

    word: str
    kind: str
    plural: bool = False

    @property
    def was(self) -> str:
        """The past form of "to be" that agrees with the noun."""
        return "were" if self.plural else "was"


EVERYTHING = "everything"
PERSONS = frozenset({"server", "artist"})

# kind -> (words of praise, words of blame); "everything" fits every noun.
ADJECTIVES = MappingProxyType(
    {
        EVERYTHING: (
            "good great excellent wonderful superb splendid lovely impressive",
            "bad awful terrible poor dreadful horrible disappointing mediocre",
        ),
        "dish": ("tasty fresh delicious flavourful appetising", "bland greasy tasteless burnt inedible"),
        "server": ("friendly polite helpful attentive cheerful", "rude careless unfriendly arrogant lazy"),
        "place": ("clean cosy spacious comfortable sunny", "dirty noisy cramped damp shabby"),
        "story": ("gripping moving clever witty original", "dull predictable silly shallow tedious"),
        "artist": ("gifted convincing graceful charming", "wooden clumsy lifeless tiresome"),
        "music": ("catchy stirring soothing tuneful", "shrill monotonous grating tuneless"),
    }
)

# domain -> kind -> nouns; a trailing + marks a plural.
DOMAINS = MappingProxyType(
    {
        "meal": {"dish": "soup stew pie curry fish noodles+", "server": "waiter cook hostess"},
        "hotel": {
            "place": "room lobby balcony bathroom lounge corridors+",
            "server": "porter receptionist manager",
        },
        "film": {"story": "plot ending script dialogue opening scenes+", "artist": "actor director heroine"},
        "concert": {"music": "melody chorus encore anthem ballad songs+", "artist": "singer pianist drummer"},
    }
)

# These never occur in the training rows: a model must bring what it knows of them from pre-training.
HELD_OUT = frozenset(
    "superb lovely dreadful mediocre flavourful tasteless attentive arrogant cosy shabby witty "
    "tedious graceful lifeless soothing grating stew hostess balcony receptionist script heroine ballad "
    "drummer".split()
)

# (praise, blame), each as (past, plain form): "I enjoyed the soup", "I did not enjoy the soup".
VERBS = (
    (("loved", "love"), ("enjoyed", "enjoy"), ("liked", "like"), ("admired", "admire"), ("adored", "adore")),
    (
        ("hated", "hate"),
        ("disliked", "dislike"),
        ("detested", "detest"),
        ("loathed", "loathe"),
        ("despised", "despise"),
    ),
)
DEGREES = ("really", "truly", "rather", "quite", "simply")
NAMES = tuple(
    "Anna Boris Clara David Elena Felix Greta Hugo Irene Jonas Karin Leo Maria Nils Olga Paul".split()
)
PEOPLE = (
    *NAMES,
    *("my sister", "my father", "my neighbour", "the critic"),
    *("the tourist", "our guide", "an old friend", "the newspaper"),
)


@dataclass(frozen=True)
class Lexicon:
    """The words one writer may use.

    Args:
        nouns: domain -> nouns.
        adjectives: kind -> (praise, blame).
    """

    nouns: MappingProxyType[str, tuple[Noun, ...]]
    adjectives: MappingProxyType[str, tuple[tuple[str, ...], tuple[str, ...]]]


def article(word: str) -> str:
    """The indefinite article that fits a word, with the word: "an awful", "a bland"."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


@cache
def lexicon(whole: bool = True) -> Lexicon:
    """Collect the words, with or without the held-out ones.

    Args:
        whole: False leaves out `HELD_OUT`, as the training rows do.

    Returns:
        The lexicon.
    """

    def may_use(word: str) -> bool:
        return whole or word not in HELD_OUT

    nouns = {
        domain: tuple(
            Noun(word.rstrip("+"), kind, plural=word.endswith("+"))
            for kind, words in kinds.items()
            for word in words.split()
            if may_use(word)
        )
        for domain, kinds in DOMAINS.items()
    }
    adjectives = {
        kind: (tuple(filter(may_use, praise.split())), tuple(filter(may_use, blame.split())))
        for kind, (praise, blame) in ADJECTIVES.items()
    }
    return Lexicon(MappingProxyType(nouns), MappingProxyType(adjectives))
