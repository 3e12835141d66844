"""The worker: sends jobs from a file, or generated traffic, through the real `openai` client."""
