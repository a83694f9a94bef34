"""Where stages meet: objects under keys, manifests written last."""
