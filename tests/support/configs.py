"""Configurations of daemons under test that several tests share; `Daemon` fills in the names behind `$`."""

DOOR = """
[listen]
http = ["$HTTP"]
udp = []
admin = "$ADMIN"
$LISTEN

[spool]
directory = "$SPOOL"
min_free = "1MiB"

[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "$UPSTREAM"
when_full = "evict_oldest"
"""
"""One destination and the HTTP listener; LISTEN is what else its section says."""

BOTH = """
[listen]
http = ["$HTTP", { unix = "$SPOOL.http.sock" }]
udp = ["$UDP"]
unix_datagram = [{ unix = "$SPOOL.dgram.sock" }]
admin = "$ADMIN"

[spool]
directory = "$SPOOL"
min_free = "1MiB"

[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "$UPSTREAM"
flush = { interval = "200ms" }
retry = { initial = "100ms", max = "500ms" }

[destinations.encharge]
kind = "encharge"
url = "$UPSTREAM/v1"
write_key = { file = "$KEYFILE" }
retry = { initial = "100ms", max = "500ms" }

[drain]
timeout = "5s"
"""
"""Both destinations and every kind of listener; KEYFILE holds the write key."""
