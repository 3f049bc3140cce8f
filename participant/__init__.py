"""A member's side: private data, consent, training, deployment, scoring."""
