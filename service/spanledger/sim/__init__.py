"""A seeded, simulated provider for the OpenAI and Anthropic APIs, with faults and its own bill."""
