"""Google's `generateContent` for callers, over deployments that speak chat completions."""
