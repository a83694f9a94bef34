"""From results to a verdict: the gate, the decision, the promotion."""
