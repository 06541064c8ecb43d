"""The live move of a store to the other database, and how processes follow it."""
