"""The command line: parse, call, print. Nothing else in the package prints or exits."""
