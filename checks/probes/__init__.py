"""What a merchant's endpoints do with bad input: a table of probes as data, and how they are played."""
