// OpenAI's package for Node, on chat completions.
import { HELLO, WEATHER, run } from './said.mjs'

// setup
import OpenAI from 'openai'

const client = new OpenAI()
// end

const tools = [
  {
    type: 'function',
    function: {
      name: 'get_weather',
      description: 'Weather of a city.',
      parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    },
  },
]

await run({
  async whole(model) {
    const messages = [{ role: 'user', content: HELLO }]
    const answer = await client.chat.completions.create({ model, messages })
    return { text: answer.choices[0].message.content }
  },
  async streamed(model) {
    const messages = [{ role: 'user', content: HELLO }]
    const pieces = []
    for await (const chunk of await client.chat.completions.create({ model, messages, stream: true }))
      pieces.push(chunk.choices[0]?.delta.content ?? '')
    return { pieces }
  },
  async tool(model) {
    const messages = [{ role: 'user', content: WEATHER }]
    const asked = await client.chat.completions.create({ model, messages, tools })
    const { message } = asked.choices[0]
    const [call] = message.tool_calls
    messages.push(message, { role: 'tool', tool_call_id: call.id, content: 'Sunny.' })
    const final = await client.chat.completions.create({ model, messages, tools })
    return {
      calls: [[call.function.name, JSON.parse(call.function.arguments)]],
      text: final.choices[0].message.content,
    }
  },
})
