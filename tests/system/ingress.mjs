// Twenty live reads of one page at once. Over HTTP/1.1 a browser opens six connections to a server, and no more.
const words = new URLSearchParams(location.search)
const server = words.get("server")
const COUNT = 20

const report = (body) => fetch("/report", { method: "POST", body: JSON.stringify(body) })
const heard = (source) => new Promise((resolve) => source.addEventListener("data", (event) => resolve(event.data), { once: true }))
const late = (seconds, what) => new Promise((_, reject) => setTimeout(() => reject(new Error(what)), seconds * 1000))

const check = async (name, work) => {
  try {
    await Promise.race([work(), late(60, "nothing came within a minute")])
    await report({ name, error: null })
  } catch (error) {
    await report({ name, error: String(error) })
  }
}

const urls = Array.from({ length: COUNT }, (_, number) => `${server}/v1/stream/ingress/${number}`)
const headers = { "content-type": "text/plain" }
let sources = []

await check("twenty streams are made", async () => {
  for (const url of urls) {
    const made = await fetch(url, { method: "PUT", headers })
    if (made.status !== 201) throw new Error(`${made.status}`)
  }
})
await check("each of twenty live reads gets what is appended while all are open", async () => {
  sources = urls.map((url) => new EventSource(`${url}?offset=-1&live=sse`))
  await Promise.all(sources.map((source) => new Promise((resolve) => source.addEventListener("control", resolve, { once: true }))))
  const all = sources.map(heard)
  for (const [number, url] of urls.entries()) {
    const done = await fetch(url, { method: "POST", headers, body: `message ${number}` })
    if (done.status !== 204) throw new Error(`${done.status}`)
  }
  const found = await Promise.all(all)
  const wrong = found.filter((text, number) => text !== `message ${number}`)
  if (wrong.length) throw new Error(JSON.stringify(wrong))
  if (sources.some((source) => source.readyState !== EventSource.OPEN)) throw new Error("some have ended")
})
sources.forEach((source) => source.close())
await report({ done: true, count: 2 })
