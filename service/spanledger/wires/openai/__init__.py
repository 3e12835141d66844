"""OpenAI's wires, and what the many servers that speak them made of them."""
