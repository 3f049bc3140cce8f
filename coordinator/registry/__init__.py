"""The registry: releases, transcripts and the roster, as members read them."""
