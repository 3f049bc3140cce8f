"""One module a schema revision; each only adds, so that an older database always opens."""
