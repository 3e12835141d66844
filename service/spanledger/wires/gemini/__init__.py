"""Google's `generateContent`: Gemini's own wire."""
