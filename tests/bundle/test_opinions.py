"""The opinions task: fixed, balanced, well-formed, and not solved by counting words."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import Counter

import pytest

from analysis import bundle
from analysis.bundle import grammar
from analysis.bundle.lexicon import ADJECTIVES, DOMAINS, HELD_OUT, article, lexicon
from analysis.errors import DataError

EVERY = [row for split in bundle.SPLITS for row in bundle.rows("opinions", split)]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def test_the_rows_are_what_they_were() -> None:
    # Runs recorded on other machines can only be compared when everybody has these very rows.
    digest = hashlib.sha256("\n".join(f"{row['label']} {row['text']}" for row in EVERY).encode()).hexdigest()
    assert digest[:16] == "fc970c459d29be17"


def test_another_process_writes_the_same_rows() -> None:
    code = "from analysis import bundle; print(bundle.rows('opinions', 'test')[-1]['text'])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=bundle.FOLDER.parents[1]
    )
    assert run.stdout.strip() == bundle.rows("opinions", "test")[-1]["text"]


def test_looking_at_examples_loads_no_torch() -> None:
    code = (
        "import sys; from analysis import bundle; bundle.rows('opinions', 'test'); "
        "print([name for name in ('torch', 'transformers', 'sklearn') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=bundle.FOLDER.parents[1]
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize(("split", "size"), [("train", 8000), ("validation", 1000), ("test", 1000)])
def test_sizes_and_balance(split: str, size: int) -> None:
    assert Counter(row["label"] for row in bundle.rows("opinions", split)) == {0: size // 2, 1: size // 2}


def test_no_text_occurs_twice_in_any_splits() -> None:
    assert len({row["text"].lower() for row in EVERY}) == len(EVERY) == 10_000


def test_held_out_words_are_only_in_a_quarter_of_the_rows_for_judging() -> None:
    held_out = {
        split: [not words(row["text"]).isdisjoint(HELD_OUT) for row in bundle.rows("opinions", split)]
        for split in bundle.SPLITS
    }
    assert {split: sum(flags) for split, flags in held_out.items()} == {
        "train": 0,
        "validation": 250,
        "test": 250,
    }


def test_every_held_out_word_is_a_word_of_the_lexicon() -> None:
    whole, known = lexicon(), lexicon(whole=False)
    for kind, sides in whole.adjectives.items():
        for side, adjectives in enumerate(sides):
            assert set(adjectives) - set(known.adjectives[kind][side]) <= HELD_OUT
            assert known.adjectives[kind][side]
    nouns = {noun.word for group in whole.nouns.values() for noun in group}
    adjectives = {word for sides in ADJECTIVES.values() for side in sides for word in side.split()}
    assert HELD_OUT <= nouns | adjectives


def test_every_family_is_there_with_about_its_share() -> None:
    counts = Counter(row["family"] for row in bundle.rows("opinions", "train"))
    assert set(counts) == set(grammar.FAMILIES)
    for family, share in grammar.FAMILIES.items():
        assert counts[family] / 8000 == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("row", EVERY[::2500], ids=lambda row: row["family"])
def test_labels_are_plain_integers(row: dict[str, object]) -> None:
    assert type(row["label"]) is int and row["label"] in (0, 1) and set(row) == {"text", "label", "family"}


def test_every_text_is_one_well_formed_sentence() -> None:
    for text in (row["text"] for row in EVERY):
        assert re.fullmatch(r"[A-Z][A-Za-z]*(,? [A-Za-z]+)+\.", text), text
        assert not re.search(r"\b(\w+) \1\b", text), text
        assert not re.search(r"\bi\b|thought I |says that I|say that I", text), text
        assert len(text.split()) <= 24, text


def test_articles_agree() -> None:
    for text in (row["text"] for row in EVERY):
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text.lower()), text
    assert (article("awful"), article("bland")) == ("an awful", "a bland")


def test_verbs_agree() -> None:
    plurals = {noun.word for group in lexicon().nouns.values() for noun in group if noun.plural}
    singulars = {noun.word for group in lexicon().nouns.values() for noun in group if not noun.plural}
    assert plurals == {"noodles", "corridors", "scenes", "songs"}
    for text in (row["text"] for row in EVERY):
        for noun, verb in re.findall(r"\bthe (\w+) (was|were)\b", text.lower()):
            # "the critic was sure" is a person who speaks, not a thing that is judged.
            if noun in plurals | singulars:
                assert (verb == "were") == (noun in plurals), text
        assert not any(re.search(rf"\ban? \w+ {noun}\b", text) for noun in plurals), text


def test_what_is_judged_stays_in_one_domain_and_is_judged_in_its_own_words() -> None:
    nouns = {
        word.rstrip("+"): (domain, kind)
        for domain, kinds in DOMAINS.items()
        for kind, group in kinds.items()
        for word in group.split()
    }
    only = {}
    for kind, sides in ADJECTIVES.items():
        for word in " ".join(sides).split():
            only[word] = kind
    for text in (row["text"] for row in EVERY):
        found = [nouns[word] for word in words(text) if word in nouns]
        assert len({domain for domain, _ in found}) == 1, text
        kinds = {only[word] for word in words(text) if word in only} - {"everything"}
        assert kinds <= {kind for _, kind in found}, text


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The pie was not burnt.", 1),
        ("The curry was not tasty.", 0),
        ("There was nothing sunny about the lobby.", 0),
        ("There was nothing terrible about the porter.", 1),
    ],
)
def test_a_denied_clause_uses_the_opposite_word(text: str, label: int) -> None:
    assert {row["label"] for row in EVERY if row["text"] == text} == {label}


def test_single_sentences_mean_what_they_say() -> None:
    praise = {word for sides in ADJECTIVES.values() for word in sides[0].split()} | set(
        "loved enjoyed liked admired adored love enjoy like admire adore".split()
    )
    denials = ("not", "never", "nothing", "nobody", "anything", "far")
    for row in EVERY:
        if row["family"] == "single":
            found = words(row["text"])
            assert (bool(found & praise) != bool(found.intersection(denials))) == bool(row["label"]), row


def test_counting_words_is_not_enough() -> None:
    assert 0.45 < bundle.bag_of_words("opinions") <= 0.60


def test_a_wrong_name_is_answered_with_the_right_ones() -> None:
    with pytest.raises(DataError, match="'jokes'; choose one of: opinions, digits"):
        bundle.rows("jokes", "train")
    with pytest.raises(DataError, match="'dev'; choose one of: train, validation, test"):
        bundle.rows("opinions", "dev")


def test_rows_are_the_callers_own() -> None:
    bundle.rows("opinions", "test")[0]["text"] = "changed"
    assert bundle.rows("opinions", "test")[0]["text"] != "changed"
