"""Run folders: create, claim, append, read, recover. Only these files cross processes."""
