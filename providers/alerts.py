"""Failures that only an operator can fix."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.registry import RegisteredModel

log = structlog.get_logger(__name__)


@contextmanager
def alert_operator(model: RegisteredModel) -> Iterator[None]:
    """Log such a failure of the block as an error. All failures are raised again."""
    try:
        yield
    except GenerationFailed as failure:
        _log(failure, model)
        raise


def _log(failure: GenerationFailed, model: RegisteredModel) -> None:
    facts = {"provider": model.provider, "model": model.id, "reason": str(failure)}
    if failure.code is GenerationErrorCode.PROVIDER_AUTHENTICATION:
        log.error("provider rejects the key", **facts)
    elif failure.code is GenerationErrorCode.MODEL_RETIRED:
        log.error("provider does not have the model", **facts)
