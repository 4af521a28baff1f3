"""The disk-backed queue of each destination: group commit, recovery, leases and acks; and what lies beside it."""
