"""Settings of the files of messages."""

from __future__ import annotations

from typing import Literal

from wahub.config.fields import LONGEST, Group, setting

_MEDIA = "Files of messages"


class MediaSettings(Group):
    """Files of messages."""

    media_download: Literal["on_demand", "eager"] = setting(
        "on_demand",
        "MEDIA_DOWNLOAD",
        _MEDIA,
        "on_demand fetches a file when it is asked for, eager as the message comes in",
    )
    media_max_mb: int = setting(
        100, "MEDIA_MAX_MB", _MEDIA, "Larger files are not fetched; 0: no limit", ge=0, le=1_000_000
    )
    media_retention_days: float = setting(
        7,
        "MEDIA_RETENTION_DAYS",
        _MEDIA,
        "Days for which a file is kept after it was fetched; then it is fetched again when asked for; 0: for ever",
        ge=0,
        le=LONGEST,
    )
