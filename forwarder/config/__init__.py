"""Configuration: one TOML file, environment overrides, every problem reported at once."""
