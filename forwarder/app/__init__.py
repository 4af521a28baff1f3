"""The composition root: builds the parts, starts and drains them in order; the only reader of clock and RNG."""
