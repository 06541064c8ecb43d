"""What an attacker, or a careless operator, gets from outside: nothing."""
