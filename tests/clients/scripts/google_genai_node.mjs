// Google's package for Node.
import { HELLO, WEATHER, run } from './said.mjs'

// setup
import { GoogleGenAI } from '@google/genai'

const client = new GoogleGenAI({
  apiKey: process.env.GEMINI_API_KEY,
  httpOptions: { baseUrl: process.env.GOOGLE_GEMINI_BASE_URL },
})
// end

const get_weather = {
  name: 'get_weather',
  description: 'Weather of a city.',
  parameters: { type: 'OBJECT', properties: { city: { type: 'STRING' } }, required: ['city'] },
}
const config = { tools: [{ functionDeclarations: [get_weather] }] }
const City = {
  type: 'OBJECT',
  properties: { name: { type: 'STRING' }, people: { type: 'INTEGER' } },
  required: ['name', 'people'],
}

await run({
  async whole(model) {
    const answer = await client.models.generateContent({ model, contents: HELLO })
    return { text: answer.text }
  },
  async streamed(model) {
    const pieces = []
    for await (const chunk of await client.models.generateContentStream({ model, contents: HELLO }))
      pieces.push(chunk.text ?? '')
    return { pieces }
  },
  async tool(model) {
    const contents = [{ role: 'user', parts: [{ text: WEATHER }] }]
    const asked = await client.models.generateContent({ model, contents, config })
    const [{ id, name, args }] = asked.functionCalls
    const response = { id, name, response: { result: 'Sunny.' } }
    contents.push(asked.candidates[0].content, { role: 'user', parts: [{ functionResponse: response }] })
    const final = await client.models.generateContent({ model, contents, config })
    return { calls: [[name, args]], text: final.text }
  },
  async structured(model) {
    const config = { responseMimeType: 'application/json', responseSchema: City }
    const answer = await client.models.generateContent({ model, contents: 'Describe Lima.', config })
    return { data: JSON.parse(answer.text) }
  },
})
