"""OpenAI's Responses API for callers, over deployments that speak chat completions."""
