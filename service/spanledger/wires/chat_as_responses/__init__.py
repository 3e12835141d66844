"""OpenAI's Responses API as deployments speak it, for callers of chat completions."""
