// OpenAI's package for Node, on audio and on changing images.
import { run } from './said.mjs'

// setup
import OpenAI, { toFile } from 'openai'

const client = new OpenAI()
// end

const bytes = (name) => Buffer.from(process.env[name], 'base64')
const audio = (name) => toFile(bytes('TRY_AUDIO'), name, { type: 'audio/wav' })

await run({
  async speech(model) {
    const input = 'Good morning, everybody.'
    const answer = await client.audio.speech.create({ model, voice: 'alloy', input })
    return { data: (await answer.arrayBuffer()).byteLength }
  },
  async transcript(model) {
    const answer = await client.audio.transcriptions.create({ model, file: await audio('Straße.wav') })
    return { text: answer.text }
  },
  async dictation(model) {
    const asked = { model, file: await audio('a.wav'), stream: true }
    const pieces = []
    for await (const event of await client.audio.transcriptions.create(asked))
      if (event.type === 'transcript.text.delta') pieces.push(event.delta)
    return { pieces }
  },
  async edit(model) {
    const image = await toFile(bytes('TRY_IMAGE'), 'cat.png', { type: 'image/png' })
    const answer = await client.images.edit({ model, image, prompt: 'A hat', n: 2 })
    return { data: answer.data.length }
  },
})
