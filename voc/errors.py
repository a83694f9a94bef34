"""Every error a user can cause or meet, each with what was seen, what was expected and what to do.

Errors cross process borders (Ray workers to drivers, drivers to Airflow), so each one survives pickling.
"""

from __future__ import annotations


class VocError(Exception):
    """Base of all named failures.

    Args:
        problem: What is wrong, with the value that was seen.
        expected: What would have been right.
        remedy: What the reader can do about it.

    Attributes:
        exit_code: Of a stage that ends with this error.
    """

    exit_code = 2

    def __init__(self, problem: str, *, expected: str = "", remedy: str = "") -> None:
        self.problem = problem
        self.expected = expected
        self.remedy = remedy
        parts = [problem.rstrip(".")]
        if expected:
            parts.append(f"Expected: {expected.rstrip('.')}")
        if remedy:
            parts.append(f"To do: {remedy.rstrip('.')}")
        super().__init__(". ".join(parts) + ".")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.problem, self.expected, self.remedy)


def _rebuild(kind: type[VocError], problem: str, expected: str, remedy: str) -> VocError:
    return kind(problem, expected=expected, remedy=remedy)


class ConfigError(VocError):
    """The configuration cannot be used; the message lists all of its mistakes."""


class DataError(VocError):
    """A data file is missing, empty, or too much of it was refused."""


class TaxonomyError(DataError):
    """The taxonomy itself is broken."""


class MixtureError(VocError):
    """The asked mixture cannot be drawn from the given sources."""


class StoreError(VocError):
    """The store cannot be reached or refused an operation."""


class ObjectNotFoundError(StoreError):
    """A key does not exist in the store."""


class ObjectExistsError(StoreError):
    """A create-only write lost: the key exists already."""


class IntegrityError(StoreError):
    """An artefact does not match its manifest."""


class ModelError(VocError):
    """A model folder cannot be used."""


class TrainingError(VocError):
    """Training cannot start, or stopped for a named reason."""


class CheckpointError(TrainingError):
    """A checkpoint could not be written, or none can be continued."""


class PreemptedError(TrainingError):
    """The machine is taken away; what was trained is in a checkpoint, and the same stage continues from it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: the same command again may succeed


class ServingError(VocError):
    """A model endpoint did not become healthy, or died."""


class EndpointError(VocError):
    """A request to a model endpoint failed for good."""


class CoverageError(VocError):
    """An evaluation does not hold every expected item exactly once."""


class PromotionError(VocError):
    """The champion log was not written, because there is no decision or another promotion was first."""


class PreflightError(VocError):
    """Something that the run needs is not there; the message lists all that was found."""
