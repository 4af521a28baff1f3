"""TelemetryDeck: signals in arrays, on the paths that its SDKs use."""
