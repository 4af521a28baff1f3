"""Sources: from bytes on a socket to groups of checked events, submitted to the intake."""
