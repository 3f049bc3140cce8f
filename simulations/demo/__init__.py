"""The demonstration: a whole alliance as real processes on this machine, and what came of it."""
