"""The worker: jobs from a file or of its own making, through the real `openai` client."""
