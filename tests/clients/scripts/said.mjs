// What every Node script shares: the routes to try, and how to report what came back.
export const ROUTES = JSON.parse(process.env.TRY_ROUTES)
export const URL = process.env.TRY_URL
export const KEY = process.env.TRY_KEY
export const HELLO = 'Say hello, please.'
export const WEATHER = 'What is the weather in Lima? Use get_weather.'

const now = () => Math.round((performance.timeOrigin + performance.now()) * 1e3) * 1000

// Does every task on every route, and prints a line about each.
export async function run(tasks) {
  for (const [way, model] of Object.entries(ROUTES)) {
    for (const [task, act] of Object.entries(tasks)) {
      const begun = now()
      let said
      try {
        said = await act(model)
      } catch (error) {
        said = { error: `${error.stack ?? error} ${JSON.stringify(error)}` }
      }
      console.log(`said: ${JSON.stringify({ task, way, begun_ns: begun, ended_ns: now(), ...said })}`)
    }
  }
}
