"""The chaos run: servers, clients and faults by a seed, and a checker of what the clients were told."""
