// promptfoo's library, without its command line, which keeps a database.
import { HELLO, run } from './said.mjs'

// setup
import promptfoo from 'promptfoo'

function evaluate(model, prompt, config = {}) {
  const providers = [{ id: `openai:chat:${model}`, config }]
  const tests = [{ vars: { prompt } }]
  return promptfoo.evaluate({ providers, prompts: ['{{prompt}}'], tests }, { cache: false })
}
// end

const City = {
  type: 'object',
  properties: { name: { type: 'string' }, people: { type: 'integer' } },
  required: ['name', 'people'],
  additionalProperties: false,
}
const response_format = { type: 'json_schema', json_schema: { name: 'City', schema: City, strict: true } }

async function output(...asked) {
  const [{ error, response }] = (await evaluate(...asked)).results
  if (error) throw new Error(error)
  return response.output
}

await run({
  async whole(model) {
    return { text: await output(model, HELLO) }
  },
  async structured(model) {
    return { data: await output(model, 'Describe Lima.', { response_format }) }
  },
})
process.exit(0)
