"""Who gains by joining: local-only, federated, personalised and pooled models by member size."""
