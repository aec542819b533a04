"""The words of the bundled language model: their numbers and their first vectors."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, _, CLS, SEP, MASK = range(5)
POSITIONS = 48
"""Longest input, in words, special ones included."""
EMBEDDING_STD, WINDOW = 0.06, 8


def tokenizer_for(texts: list[str]) -> PreTrainedTokenizerFast:
    """Build a lower-casing word tokenizer that knows every word of the texts.

    Args:
        texts: at least one text; words are numbered from the most frequent down, ties by alphabet.

    Returns:
        A tokenizer that frames its input as [CLS] a [SEP] or [CLS] a [SEP] b [SEP].
    """
    lower, split = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in split.pre_tokenize_str(lower.normalize_str(text)))
    words = (*SPECIAL, *sorted(counts, key=lambda word: (-counts[word], word)))
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = lower, split
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=POSITIONS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def embeddings_from(ids: list[list[int]], vocabulary: int, width: int, generator: torch.Generator) -> Tensor:
    """Word vectors from how often words stand near each other.

    Positive pointwise mutual information, max(0, log(n_ij n / (n_i n_j))), of pairs within `WINDOW` words,
    and its leading eigenvectors scaled by the square roots of the eigenvalues.

    Args:
        ids: word numbers of each document, special tokens left out.
        vocabulary: number of words.
        width: length of a vector, at most the vocabulary.
        generator: for the words that were never seen.

    Returns:
        Matrix (vocabulary, width) with standard deviation EMBEDDING_STD.
    """
    words = np.concatenate([np.array(document) for document in ids])
    documents_of = np.repeat(np.arange(len(ids)), [len(document) for document in ids])
    near = np.zeros((vocabulary, vocabulary))
    for gap in range(1, WINDOW + 1):
        same = documents_of[gap:] == documents_of[:-gap]
        pairs = words[:-gap][same] * vocabulary + words[gap:][same]
        near += np.bincount(pairs, minlength=vocabulary**2).reshape(vocabulary, vocabulary)
    near += near.T
    seen = near.sum(axis=1)
    expected = np.outer(seen, seen) / seen.sum()
    ratio = np.divide(near, expected, out=np.ones_like(near), where=near > 0)
    values, vectors = np.linalg.eigh(np.maximum(0.0, np.log(ratio)))
    leading = np.argsort(-np.abs(values))[:width]
    table = torch.from_numpy(vectors[:, leading] * np.sqrt(np.abs(values[leading]))).float()
    unseen = torch.from_numpy(seen == 0)
    table[unseen] = torch.randn(int(unseen.sum()), width, generator=generator) * table.std()
    return table * (EMBEDDING_STD / table.std())
