"""What is wrong with a ModelService, in words that name the field, the value and the remedy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with one field.

    `path` is written as the user writes it, e.g. `spec.models[1].batching.preferredBatchSizes`; `message` says what
    is wrong with which value and what to write instead.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InvalidSpecError(ValueError):
    """A ModelService that cannot be rendered; carries every problem found, not only the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems))
