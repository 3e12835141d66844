"""Anthropic's Messages API for callers, over deployments that speak chat completions."""
