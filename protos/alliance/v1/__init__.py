"""Version 1 of the alliance protocol; generated, see protos/generate.py."""
