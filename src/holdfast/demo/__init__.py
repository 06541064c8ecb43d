"""The demonstration: a move under traffic, and what its clients wrote down about it. Prints nothing."""
