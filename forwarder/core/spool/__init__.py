"""What the spool is made of: formats, intervals, the ledger, recovery. Bytes in, values out; no file is touched."""
