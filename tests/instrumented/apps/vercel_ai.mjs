// The AI SDK of Vercel with its telemetry: a text with a tool, an embedding, a refusal.
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { NodeTracerProvider, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-node";
import { createOpenAI } from "@ai-sdk/openai";
import { embed, generateText, jsonSchema, stepCountIs, tool } from "ai";

const planted = (where) => `planted-${where}-here`;
const provider = new NodeTracerProvider({
  spanProcessors: [new SimpleSpanProcessor(new OTLPTraceExporter())],
});
provider.register();
const openai = createOpenAI({
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
});
const telemetry = {
  isEnabled: true,
  functionId: "answer",
  metadata: { note: planted("metadata") },
};
const lookUp = tool({
  description: planted("tool_description"),
  inputSchema: jsonSchema({ type: "object", properties: { q: { type: "string" } } }),
  execute: async ({ q }) => planted("tool_result") + q,
});

await generateText({
  model: openai.chat("gpt-4o-mini"),
  system: planted("system"),
  prompt: planted("user"),
  tools: { look_up: lookUp },
  stopWhen: stepCountIs(2),
  maxRetries: 0,
  experimental_telemetry: telemetry,
});
await embed({
  model: openai.embedding("text-embedding-3-small"),
  value: planted("embedding"),
  experimental_telemetry: telemetry,
});
try {
  await generateText({
    model: openai.chat("refuse"),
    prompt: planted("refused"),
    maxRetries: 0,
    experimental_telemetry: telemetry,
  });
} catch {
  // As it should be.
}
await provider.forceFlush();
