"""Random requests for what is not a dialogue."""

from __future__ import annotations

from typing import Any

from tests.bounds.texts import Texts

Body = dict[str, Any]
EMBED, EMBED_LARGE = "text-embedding-3-small", "text-embedding-3-large"
TEXT, BABBAGE = "gpt-3.5-turbo-instruct", "babbage-002"
MODERATE = "omni-moderation-latest"
COHERE, JINA = "rerank-v3.5", "jina-reranker-v2-base-multilingual"
DRAW, PAINT = "gpt-image-1", "dall-e-3"


class Other:
    """What they share.

    Attributes:
        longest: tokens that the models just read.
    """

    longest = 500

    def __init__(self, texts: Texts) -> None:
        self.texts, self.dice, self.chance = texts, texts.dice, texts.chance

    def ids(self) -> list[int]:
        """A text as tokens: a digit each, or six."""
        low = self.dice.choice([10, 200_000])
        return [
            self.dice.randrange(low) for _ in range(self.dice.choice([1, 9, 500, self.longest]))
        ]

    def texts_or_ids(self, most: int) -> Any:
        """A text, tokens, or many of either."""
        count = self.dice.choice([1, 2, 9, most])
        kind = self.dice.randrange(4)
        if kind == 0:
            return self.texts.text(4_000)
        if kind == 1:
            return self.ids()
        if kind == 2:
            return [self.texts.text(400 if count > 9 else 3_000) for _ in range(count)]
        return [self.ids() for _ in range(min(count, 9))]


class Embeddings(Other):
    """Embeddings."""

    path = "/v1/embeddings"
    longest = 8_192

    def body(self) -> Body:
        """A request."""
        body: Body = {"model": self.dice.choice([EMBED, EMBED_LARGE])}
        body["input"] = self.texts_or_ids(90)
        body["dimensions"] = self.dice.choice([1, 8])
        if self.chance(0.3):
            body["encoding_format"] = self.dice.choice(["float", "base64"])
        if self.chance(0.2):
            body["user"] = self.texts.text(40)
        return body


class Completions(Other):
    """Legacy completions."""

    path = "/v1/completions"

    def body(self) -> Body:
        """A request."""
        dice = self.dice
        body: Body = {"model": dice.choice([TEXT, BABBAGE]), "prompt": self.texts_or_ids(20)}
        if self.chance(0.3):
            body["stream"] = True
            if self.chance(0.5):
                body["stream_options"] = {"include_usage": True}
        if self.chance(0.7):
            body["max_tokens"] = dice.choice([0, 1, 2, 16, 100, 400])
        if self.chance(0.3):
            body["n"] = dice.choice([1, 2, 3])
        if self.chance(0.3) and "stream" not in body:
            body["best_of"] = body.get("n", 1) + dice.choice([0, 1, 3])
        if self.chance(0.2):
            body |= {"suffix": self.texts.text(60)}
        if self.chance(0.2):
            body["stop"] = dice.choice(["e", ["qu", "zz"]])
        if self.chance(0.1):
            body["logprobs"] = 5
        return body


class Moderations(Other):
    """Moderations, which are free."""

    path = "/v1/moderations"

    def body(self) -> Body:
        """A request."""
        body: Body = {"input": self.texts.text(8_000)}
        if self.chance(0.3):
            body["input"] = [self.texts.text() for _ in range(self.dice.choice([1, 9]))]
        elif self.chance(0.3):
            image = {"type": "image_url", "image_url": {"url": self.texts.picture()}}
            body["input"] = [{"type": "text", "text": self.texts.text()}, image]
        if self.chance(0.7):
            body["model"] = MODERATE
        return body


class Rerank(Other):
    """Rerank."""

    path = "/v1/rerank"

    def body(self) -> Body:
        """A request."""
        dice = self.dice
        count = dice.choice([1, 2, 9, 99, 101, 230])
        longest = 8_000 if count < 10 else 300
        documents: list[Any] = [self.texts.text(longest) for _ in range(count)]
        if self.chance(0.2):
            documents = [{"text": text} for text in documents]
        body: Body = {"model": dice.choice([COHERE, JINA]), "documents": documents}
        body["query"] = self.texts.text(dice.choice([30, 2_000]))
        if self.chance(0.5):
            body["top_n"] = dice.choice([1, 3, 50])
        if self.chance(0.3):
            body["return_documents"] = True
        return body


class Images(Other):
    """Image generation."""

    path = "/v1/images/generations"

    def body(self) -> Body:
        """A request."""
        dice = self.dice
        body: Body = {"model": DRAW, "prompt": self.texts.text(8_000)}
        sizes, qualities = (
            ["1024x1024", "1024x1536", "1536x1024", "auto"],
            ["low", "medium", "high"],
        )
        if self.chance(0.2):
            body["model"] = PAINT
            sizes, qualities = ["1024x1024", "1024x1792", "1792x1024"], ["standard", "hd"]
        elif self.chance(0.5):
            body["n"] = dice.choice([1, 2, 4, 10])
            if self.chance(0.4):
                body |= {"stream": True, "partial_images": dice.choice([0, 1, 3])}
        elif self.chance(0.5):
            body["background"] = dice.choice(["transparent", "opaque", "auto"])
        if self.chance(0.7):
            body["size"] = dice.choice(sizes)
        if self.chance(0.7):
            body["quality"] = dice.choice(
                [*qualities, "auto"] if body["model"] == DRAW else qualities
            )
        return body
