// The AI SDK with its OpenAI-compatible provider.
import { generateObject, generateText, stepCountIs, streamText, tool } from 'ai'
import { z } from 'zod'
import { HELLO, KEY, URL, WEATHER, run } from './said.mjs'

// setup
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'

const provider = createOpenAICompatible({
  name: 'spanledger',
  baseURL: `${URL}/v1`,
  apiKey: KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
})
// end

await run({
  async whole(model) {
    return { text: (await generateText({ model: provider(model), prompt: HELLO })).text }
  },
  async streamed(model) {
    const failed = []
    const onError = ({ error }) => failed.push(error)
    const { textStream } = streamText({ model: provider(model), prompt: HELLO, onError })
    const pieces = []
    for await (const piece of textStream) pieces.push(piece)
    if (failed.length) throw failed[0]
    return { pieces }
  },
  async tool(model) {
    const calls = []
    const get_weather = tool({
      description: 'Weather of a city.',
      inputSchema: z.object({ city: z.string() }),
      execute: async (args) => {
        calls.push(['get_weather', args])
        return 'Sunny.'
      },
    })
    const { text } = await generateText({
      model: provider(model),
      tools: { get_weather },
      stopWhen: stepCountIs(3),
      prompt: WEATHER,
    })
    return { calls, text }
  },
  async structured(model) {
    const schema = z.object({ name: z.string(), people: z.number().int() })
    const { object } = await generateObject({ model: provider(model), schema, prompt: 'Describe Lima.' })
    return { data: object }
  },
})
