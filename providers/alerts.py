"""Failures that only an operator can fix."""

import structlog

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.registry import RegisteredModel

log = structlog.get_logger(__name__)


def alert_operator(failure: GenerationFailed, model: RegisteredModel) -> None:
    """Log such a failure as an error; ignore all others."""
    facts = {"provider": model.provider, "model": model.id, "reason": str(failure)}
    if failure.code is GenerationErrorCode.PROVIDER_AUTHENTICATION:
        log.error("provider does not take our key", **facts)
    elif failure.code is GenerationErrorCode.MODEL_RETIRED:
        log.error("provider does not have the model", **facts)
