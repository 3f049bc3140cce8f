"""Privacy: noise that cannot be guessed."""
