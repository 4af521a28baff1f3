"""JSON text as senders write it: what RFC 8259 allows, and the repair of NaN and Infinity."""
