// Anthropic's package for Node.
import { HELLO, WEATHER, run } from './said.mjs'

// setup
import Anthropic from '@anthropic-ai/sdk'

const client = new Anthropic()
// end

const max_tokens = 1024
const tools = [
  {
    name: 'get_weather',
    description: 'Weather of a city.',
    input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
]
const textOf = (answer) => answer.content.map((block) => block.text ?? '').join('')

await run({
  async whole(model) {
    const messages = [{ role: 'user', content: HELLO }]
    return { text: textOf(await client.messages.create({ model, messages, max_tokens })) }
  },
  async streamed(model) {
    const messages = [{ role: 'user', content: HELLO }]
    const pieces = []
    const stream = client.messages.stream({ model, messages, max_tokens })
    stream.on('text', (piece) => pieces.push(piece))
    await stream.finalMessage()
    return { pieces }
  },
  async tool(model) {
    const messages = [{ role: 'user', content: WEATHER }]
    const asked = await client.messages.create({ model, messages, max_tokens, tools })
    const [call] = asked.content.filter((block) => block.type === 'tool_use')
    const content = [{ type: 'tool_result', tool_use_id: call.id, content: 'Sunny.' }]
    messages.push({ role: 'assistant', content: asked.content }, { role: 'user', content })
    const final = await client.messages.create({ model, messages, max_tokens, tools })
    return { calls: [[call.name, call.input]], text: textOf(final) }
  },
})
