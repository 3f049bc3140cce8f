"""The model: features, layout, metrics, bundle."""
