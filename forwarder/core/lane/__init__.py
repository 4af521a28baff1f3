"""What a lane decides: batches, order, backoff, parking, bisection, and what an answer leads to. Time is handed in."""
