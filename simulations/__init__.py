"""Runnable studies, the synthetic world and the demo."""
