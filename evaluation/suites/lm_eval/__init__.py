"""Tasks of lm-eval, asked over an endpoint."""
