"""The alliance protocol: generated code, one package a version."""
