"""Configuration: one TOML file, environment overrides, every problem reported at once."""

from forwarder.config.loading import examine, load
from forwarder.config.secret import AUTH_TOKEN, Secrets

__all__ = ["AUTH_TOKEN", "Secrets", "examine", "load"]
