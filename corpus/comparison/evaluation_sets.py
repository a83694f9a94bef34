"""The texts that models are judged by, for the comparison with the training sources."""

from __future__ import annotations

from collections.abc import Sequence

from corpus.comparison.contamination import EvaluationSet
from corpus.parts import PartFile, read_batches
from voc.mmlu import load_mmlu

VOC_TEST = "voc_test"
MMLU_TEST = "mmlu_test"


def read_evaluation_sets(test_parts: Sequence[PartFile], mmlu_dataset: str) -> list[EvaluationSet]:
    """Return the comments of the test set, and the questions with their choices.

    Raises:
        DataError: If the questions cannot be read.
        ObjectNotFoundError: If they are not there.
    """
    comments = [
        text for part in test_parts for _, batch in read_batches(part, ["text"]) for text in batch[0].to_pylist()
    ]
    questions = ["\n".join([item.question, *item.choices]) for item in load_mmlu(mmlu_dataset, None)]
    return [EvaluationSet(VOC_TEST, tuple(comments)), EvaluationSet(MMLU_TEST, tuple(questions))]
