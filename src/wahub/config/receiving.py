"""Settings of receiving."""

from __future__ import annotations

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from wahub.config.fields import LONGEST, Group, setting

_RECEIVING = "Receiving"


class ReceivingSettings(Group):
    """Receiving."""

    receive_status_posts: bool = setting(
        False, "RECEIVE_STATUS_POSTS", _RECEIVING, "1 reports what people post as their status, too"
    )
    messages_retention_days: float = setting(
        30,
        "MESSAGES_RETENTION_DAYS",
        _RECEIVING,
        "Days for which chats and messages can be asked for, at least 1; 0: for ever",
        ge=0,
        le=LONGEST,
    )

    @field_validator("messages_retention_days")
    @classmethod
    def _at_least_a_day(cls, given: float) -> float:
        if 0 < given < 1:
            raise PydanticCustomError("at_least_a_day", "Input should be 0, or 1 or more")
        return given
