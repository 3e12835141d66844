"""A simulated provider on the OpenAI and Anthropic wires, seeded, with faults and its own bill."""
