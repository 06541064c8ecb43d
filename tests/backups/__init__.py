"""Backups: taken under load, put back, killed, damaged, pruned."""
