"""What comes with the laboratory: two tasks and two tiny models, all written and trained by this project.

Importing this package loads neither torch nor transformers nor scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from analysis.errors import DataError

FOLDER = Path(__file__).parent
MODELS: Mapping[str, Path] = MappingProxyType({"text": FOLDER / "text", "digits": FOLDER / "digits"})
"""Name after "bundled:" -> Hugging Face folder."""

SPLITS = ("train", "validation", "test")
TASKS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "opinions": MappingProxyType(
            {
                "kind": "classification",
                "column": "text",
                "label_names": ("unhappy", "happy"),
                "metric": "accuracy",
                "model": "bundled:text",
                "description": "Short reviews of meals, hotels, films and concerts: is the writer happy? "
                "Counting praise and blame does not answer it; who speaks, what is denied and which is the "
                "main clause do.",
            }
        ),
        "digits": MappingProxyType(
            {
                "kind": "image-classification",
                "column": "image",
                "label_names": ("5", "6", "7", "8", "9"),
                "metric": "accuracy",
                "model": "bundled:digits",
                "description": "Handwritten digits 5 to 9, 8 by 8 pixels; the model only ever saw 0 to 4.",
            }
        ),
    }
)


def rows(task: str, split: str) -> list[dict[str, Any]]:
    """The rows of a bundled task.

    Args:
        task: key of `TASKS`.
        split: "train", "validation" (for choosing settings) or "test".

    Returns:
        Opinions: text, label (0 or 1) and family. Digits: image (8 lists of 8 floats in [0, 1]) and
        label (0 to 4).

    Raises:
        DataError: for another task or split.
    """
    if task not in TASKS:
        raise DataError(f"There is no bundled task {task!r}; choose one of: {', '.join(TASKS)}.")
    if split not in SPLITS:
        raise DataError(
            f"The bundled task {task!r} has no split {split!r}; choose one of: {', '.join(SPLITS)}."
        )
    if task == "opinions":
        from analysis.bundle.grammar import opinions

        return [dict(row) for row in opinions(split)]
    from analysis.bundle.digits import digits

    return [dict(row) for row in digits(split)]


@cache
def bag_of_words(task: str, words: int = 1) -> float:
    """Test accuracy of logistic regression on what is in an example, wherever it stands.

    Args:
        task: key of `TASKS`; for digits the counts are the pixels.
        words: longest run of neighbouring words that is counted, 1 or more; without effect for digits.

    Returns:
        Accuracy in [0, 1], fitted on the training rows.

    Raises:
        DataError: for another task.
    """
    train, test = rows(task, "train"), rows(task, "test")

    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    column = str(TASKS[task]["column"])
    if column == "text":
        counter = CountVectorizer(ngram_range=(1, words))
        seen, unseen = (
            counter.fit_transform([row[column] for row in train]),
            counter.transform([row[column] for row in test]),
        )
    else:
        seen, unseen = (np.reshape([row[column] for row in part], (len(part), -1)) for part in (train, test))
    model = LogisticRegression(max_iter=1000).fit(seen, [row["label"] for row in train])
    return float(model.score(unseen, [row["label"] for row in test]))
