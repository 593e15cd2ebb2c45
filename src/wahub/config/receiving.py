"""Settings of receiving."""

from __future__ import annotations

from wahub.config.fields import Group, setting

_RECEIVING = "Receiving"


class ReceivingSettings(Group):
    """Receiving."""

    receive_status_posts: bool = setting(
        False, "RECEIVE_STATUS_POSTS", _RECEIVING, "1 reports what people post as their status, too"
    )
