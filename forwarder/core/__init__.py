"""The pure core: formats, decisions and the seams between layers. Bytes, `now` and `jitter` come in; values go out."""
