"""Pre-training of the bundled language model, from nothing to a Hugging Face folder in a few minutes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from analysis.bundle.documents import OPINION_SHARE, REVIEW_SHARE, Document, documents
from analysis.bundle.grammar import SIZES, opinions
from analysis.bundle.saving import save
from analysis.bundle.words import MASK, PAD, POSITIONS, SPECIAL, embeddings_from, tokenizer_for

log = logging.getLogger(__name__)

WIDTH, LAYERS, HEADS, INNER = 128, 3, 4, 256
# BERT's 0.02 is meant for width 768; the same relative noise at this width is 0.02 * sqrt(768 / 128).
INITIAL_STD = 0.05
DOCUMENTS = 40_000
BATCH, RATE, WARM_UP, DECAY = 64, 1.5e-3, 0.12, 0.01
# Share of the words to be guessed in the first and in the second sentence.
MASKED = (0.15, 0.5)

# Eager attention is the fastest for sequences this short.
NO_DROPOUT: dict[str, Any] = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "attn_implementation": "eager",
}

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Losses:
    """Mean losses, in nats, over the last hundred pre-training steps.

    Args:
        words: masked language model.
        following: guess the words of the second sentence from the first.
    """

    words: float
    following: float


class Reader(nn.Module):
    """BERT with the two heads it is pre-trained with.

    Args:
        vocabulary: number of words.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        sizes: dict[str, Any] = {
            "vocab_size": vocabulary,
            "hidden_size": WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "intermediate_size": INNER,
            "max_position_embeddings": POSITIONS,
            "initializer_range": INITIAL_STD,
        }
        self.bert = BertModel(BertConfig(**sizes, **NO_DROPOUT))
        self.transform = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.LayerNorm(WIDTH))
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.following = nn.Linear(WIDTH, vocabulary)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute both losses.

        Args:
            batch: token numbers and what is to be guessed.

        Returns:
            Mean loss per masked word and per word of the second sentence, in nats.
        """
        out = self.bert(batch.ids, attention_mask=one_way(batch.ids, batch.types), token_type_ids=batch.types)
        hidden = self.transform(out.last_hidden_state[batch.asked])  # (asked words, WIDTH)
        logits = F.linear(hidden, self.bert.embeddings.word_embeddings.weight, self.bias)
        guesses = F.log_softmax(self.following(out.pooler_output), dim=-1)  # (B, vocabulary)
        return F.cross_entropy(logits, batch.answers), -(
            guesses * batch.following
        ).sum() / batch.following.sum()


def one_way(ids: Tensor, types: Tensor) -> Tensor:
    """Attention that lets the second sentence see both and the first, with [CLS], only itself.

    Args:
        ids: token numbers, (B, T).
        types: 0 for the first sentence, 1 for the second, (B, T).

    Returns:
        What is added to the attention's logits, 0 or the smallest float, (B, 1, T, T).
    """
    visible = (types[:, :, None] >= types[:, None, :]) & (ids != PAD)[:, None, :]
    return torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)[:, None]


@dataclass(frozen=True)
class Batch:
    """One pre-training batch; B documents of at most T words.

    Args:
        ids: token numbers with words masked, (B, T).
        types: 0 for the first sentence, 1 for the second, (B, T).
        asked: where a word is to be guessed, bool (B, T).
        answers: the words there, (asked,).
        following: how often each word occurs in the second sentence, (B, vocabulary).
    """

    ids: Tensor
    types: Tensor
    asked: Tensor
    answers: Tensor
    following: Tensor


def batches(
    tokenizer: PreTrainedTokenizerFast, written: list[Document], steps: int, seed: int
) -> Iterator[Batch]:
    """Draw masked batches of documents of similar length.

    Args:
        tokenizer: turns sentences into numbers.
        written: the documents, at least BATCH.
        steps: how many batches.
        seed: decides order and masking.

    Yields:
        The batches.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = tokenizer(*map(list, zip(*written, strict=True)), padding=True, return_tensors="pt")
    ids, types = pairs["input_ids"], pairs["token_type_ids"]
    lengths = (ids != PAD).sum(-1)
    near = torch.argsort(lengths + torch.rand(len(lengths), generator=generator))
    chunks = near[: len(near) // BATCH * BATCH].view(-1, BATCH)
    for _ in range(steps):
        rows = chunks[torch.randint(len(chunks), (), generator=generator)]
        words, second = ids[rows, : int(lengths[rows].max())], types[rows, : int(lengths[rows].max())]
        following = torch.zeros(BATCH, len(tokenizer)).scatter_add_(1, words * second, second.float())
        following[:, : len(SPECIAL)] = 0
        shown, asked, answers = _masked(words, second, len(tokenizer), generator)
        yield Batch(shown, second, asked, answers, following)


def _masked(
    ids: Tensor, types: Tensor, words: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    def chance() -> Tensor:
        return torch.rand(ids.shape, generator=generator)

    asked, how = (ids >= len(SPECIAL)) & (chance() < torch.tensor(MASKED)[types]), chance()
    noise = torch.randint(len(SPECIAL), words, ids.shape, generator=generator)
    shown = torch.where(asked & (how < 0.85), torch.full_like(ids, MASK), ids)
    return torch.where(asked & (how > 0.93), noise, shown), asked, ids[asked]


def train(reader: Reader, drawn: Iterator[Batch], steps: int, progress: Progress | None) -> Losses:
    """Pre-train in place with AdamW, linear warm-up and linear decay.

    Args:
        reader: the model.
        drawn: exactly `steps` batches.
        steps: at least 1.
        progress: called after each step with (steps done, steps, sum of the two losses).

    Returns:
        The losses at the end.
    """
    plain = [p for p in reader.parameters() if p.ndim < 2]
    matrices = [p for p in reader.parameters() if p.ndim >= 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}],
        lr=RATE,
        fused=True,
    )
    warm_up = max(1, round(WARM_UP * steps))
    history: list[tuple[float, float]] = []
    for done, batch in enumerate(drawn, start=1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(done / warm_up, (steps - done + 1) / max(1, steps - warm_up))
        words, following = reader(batch)
        (words + following).backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        history.append((words.item(), following.item()))
        if progress:
            progress(done, steps, sum(history[-1]))
        if done % 100 == 0:
            log.info("step %d: words %.3f, following %.3f", done, *np.mean(history[-100:], axis=0))
    words, following = np.mean(history[-100:], axis=0)
    return Losses(float(words), float(following))


def build_text(
    out: Path, seed: int, steps: int, progress: Progress | None = None, count: int = DOCUMENTS
) -> Losses:
    """Write the text, pre-train the model on it, and save both model and tokenizer.

    Args:
        out: folder to fill; made when missing.
        seed: the same seed, steps and number of threads give the same weights.
        steps: pre-training steps, at least 1.
        progress: called after each step with (steps done, steps, loss).
        count: documents to write, at least BATCH.

    Returns:
        The losses at the end of pre-training.
    """
    started = time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    written = documents(count, seed)
    texts = [" ".join(document) for document in written]
    tokenizer = tokenizer_for(texts + [str(row["text"]) for split in SIZES for row in opinions(split)])
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = Reader(len(tokenizer))
    with torch.no_grad():
        reader.bert.embeddings.word_embeddings.weight.copy_(
            embeddings_from(ids, len(tokenizer), WIDTH, generator)
        )
    losses = train(reader, batches(tokenizer, written, steps, seed), steps, progress)
    tokenizer.save_pretrained(out)
    seconds = round(time.monotonic() - started)
    save(
        "text",
        reader.bert,
        out,
        {
            "seed": seed,
            "steps": steps,
            "documents": count,
            "opinions": OPINION_SHARE,
            "reviews": REVIEW_SHARE,
            "words": len(tokenizer),
            "seconds": seconds,
            "loss_words": round(losses.words, 3),
            "loss_following": round(losses.following, 3),
        },
    )
    log.info("pre-trained in %d s", seconds)
    return losses
