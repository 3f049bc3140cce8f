"""Flower messages, and how they travel between the coordinator and a member."""
