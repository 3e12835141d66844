// OpenAI's package for Node, on the Responses API.
import { HELLO, WEATHER, run } from './said.mjs'

// setup
import OpenAI from 'openai'

const client = new OpenAI()
// end

const tools = [
  {
    type: 'function',
    name: 'get_weather',
    description: 'Weather of a city.',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' } },
      required: ['city'],
      additionalProperties: false,
    },
    strict: true,
  },
]

await run({
  async whole(model) {
    return { text: (await client.responses.create({ model, input: HELLO })).output_text }
  },
  async streamed(model) {
    const pieces = []
    for await (const event of client.responses.stream({ model, input: HELLO }))
      if (event.type === 'response.output_text.delta') pieces.push(event.delta)
    return { pieces }
  },
  async tool(model) {
    const input = [{ role: 'user', content: WEATHER }]
    const asked = await client.responses.create({ model, input, tools })
    const [call] = asked.output.filter((item) => item.type === 'function_call')
    input.push(...asked.output)
    input.push({ type: 'function_call_output', call_id: call.call_id, output: 'Sunny.' })
    const final = await client.responses.create({ model, input, tools })
    return { calls: [[call.name, JSON.parse(call.arguments)]], text: final.output_text }
  },
})
