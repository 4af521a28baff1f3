"""Encharge: one event about one person a call, selected by write key."""
