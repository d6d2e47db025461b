"""Failures that only an operator can mend."""

import structlog

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import GenerationRequest

log = structlog.get_logger(__name__)


def sound_alarm(failure: GenerationFailed, request: GenerationRequest) -> None:
    """Log it as an error where it is one of those."""
    model = request.model
    facts = {"provider": model.provider, "model": model.id, "reason": str(failure)}
    if failure.code is GenerationErrorCode.PROVIDER_AUTHENTICATION:
        log.error("provider does not take our key", **facts)
    elif failure.code is GenerationErrorCode.MODEL_RETIRED:
        log.error("provider does not have the model", **facts)
