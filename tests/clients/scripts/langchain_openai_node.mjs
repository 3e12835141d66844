// LangChain for Node with its OpenAI package.
import { tool as asTool } from '@langchain/core/tools'
import { z } from 'zod'
import { HELLO, WEATHER, run } from './said.mjs'

// setup
import { ChatOpenAI } from '@langchain/openai'

const chat = (model) => new ChatOpenAI({ model })
// end

await run({
  async whole(model) {
    return { text: (await chat(model).invoke(HELLO)).text }
  },
  async streamed(model) {
    const pieces = []
    for await (const chunk of await chat(model).stream(HELLO)) pieces.push(chunk.text)
    return { pieces }
  },
  async tool(model) {
    const schema = z.object({ city: z.string() })
    const what = { name: 'get_weather', description: 'Weather of a city.', schema }
    const bound = chat(model).bindTools([asTool(async () => 'Sunny.', what)])
    const turns = [{ role: 'user', content: WEATHER }]
    const asked = await bound.invoke(turns)
    const [call] = asked.tool_calls
    turns.push(asked, { role: 'tool', tool_call_id: call.id, content: 'Sunny.' })
    const final = await bound.invoke(turns)
    return { calls: [[call.name, call.args]], text: final.text }
  },
})
