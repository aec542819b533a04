"""Answers from logits: the best span of each window, and the best window of each question."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.engine import metrics
from analysis.engine.tasks_qa import AnswerSplit

LONGEST_ANSWER = 30


def best_spans(start: Tensor, end: Tensor, longest: int = LONGEST_ANSWER) -> tuple[Tensor, Tensor, Tensor]:
    """Find the best span of every window: the exact argmax of start[i] + end[j] over i ≤ j < i + longest.

    Args:
        start: logits of the first token, -inf where no answer may begin, float [b, L].
        end: logits of the last token, the same, float [b, L].
        longest: most tokens in an answer, ≥ 1.

    Returns:
        (score [b], first token [b], last token [b]).
    """
    score = torch.full(start.shape[:1], -torch.inf)
    first, last = torch.zeros(len(score), dtype=torch.int64), torch.zeros(len(score), dtype=torch.int64)
    for width in range(min(longest, start.shape[1])):
        value, at = (start[:, : start.shape[1] - width] + end[:, width:]).max(dim=1)
        better = value > score
        score = torch.where(better, value, score)
        first, last = torch.where(better, at, first), torch.where(better, at + width, last)
    return score, first, last


class AnswerScorer:
    """Collects the best span of every window and keeps the best of each question.

    Args:
        split: the split.
    """

    def __init__(self, split: AnswerSplit) -> None:
        count = len(split.source)
        self._split = split
        self._score = np.full(count, -np.inf, dtype=np.float32)
        self._chance = np.zeros(count, dtype=np.float32)
        self._begin, self._end = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        self._finite = True

    def add(self, indices: np.ndarray, outputs: Any, batch: dict[str, Tensor]) -> None:
        """Take the outputs of one batch.

        Args:
            indices: windows, int [b].
            outputs: model outputs with `start_logits` and `end_logits` [b, tokens].
            batch: the inputs that gave them.
        """
        windows = self._split.windows
        begin, end = windows.begin.pad(indices, -1)[0], windows.end.pad(indices, -1)[0]
        inside = torch.from_numpy(begin >= 0)
        raw = [logits.float().cpu() for logits in (outputs.start_logits, outputs.end_logits)]
        self._finite &= all(bool(torch.isfinite(logits[inside]).all()) for logits in raw)
        start_logits, end_logits = (logits.masked_fill(~inside, -torch.inf) for logits in raw)
        score, first, last = best_spans(start_logits, end_logits)
        chance = (score - start_logits.logsumexp(dim=1) - end_logits.logsumexp(dim=1)).exp()
        for line, window in enumerate(indices):
            example = windows.example[window]
            if score[line] > self._score[example]:
                self._score[example], self._chance[example] = float(score[line]), float(chance[line])
                self._begin[example], self._end[example] = begin[line, first[line]], end[line, last[line]]

    def result(self) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Return metrics and, per question, the character where right and predicted answer begin."""
        split = self._split
        texts = [c[b:e] for c, b, e in zip(split.contexts, self._begin, self._end, strict=True)]
        exact, overlap = metrics.answer_scores(
            texts, [[text for text, _ in answers] for answers in split.answers]
        )
        found = {"f1": float(overlap.mean()), "exact_match": float(exact.mean())}
        if not self._finite:
            found = dict.fromkeys(found, float("nan"))
        return found, {
            "row": split.source.rows,
            "label": np.asarray([answers[0][1] for answers in split.answers], dtype=np.int32),
            "prediction": self._begin.astype(np.int32),
            "confidence": self._chance,
        }
