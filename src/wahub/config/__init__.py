"""The settings: the only place that reads the environment.

A flag wins over the environment, the environment over `.env` in the working directory, that over the default
(contract 0.11). An empty value counts as not given. `.env.example` is made from these files by
`scripts/gen_env_example`.

`fields.py` says how a setting is declared; `server.py`, `traffic.py` and `links.py` declare them by topic;
`settings.py` puts them together with the rules between them; `loading.py` reads them.
"""

from wahub.config.fields import ENV_FILE, SettingsError, is_loopback
from wahub.config.loading import load_settings
from wahub.config.settings import Settings, names_of

__all__ = ["ENV_FILE", "Settings", "SettingsError", "is_loopback", "load_settings", "names_of"]
