// The npm client in a page that is reloaded in the midst of a stream: it goes on where it was, and nothing comes twice.
import { DurableStream, stream } from "@durable-streams/client"

const base = new URLSearchParams(location.search).get("server")
const url = `${base}/v1/stream/resume/chat`
const report = (body) => fetch("/report", { method: "POST", body: JSON.stringify(body) })

// Live, until so many have come; what was seen is kept where a reload finds it.
const follow = async (count) => {
  const seen = JSON.parse(sessionStorage.getItem("seen") ?? "[]")
  const session = await stream({ url, offset: sessionStorage.getItem("offset") ?? "-1", live: "sse", json: true, warnOnHttp: false })
  await new Promise((resolve) => {
    session.subscribeJson(async (batch) => {
      seen.push(...batch.items)
      sessionStorage.setItem("seen", JSON.stringify(seen))
      sessionStorage.setItem("offset", batch.offset)
      if (seen.length >= count) resolve()
    })
  })
  session.cancel()
  return seen
}

try {
  if (sessionStorage.getItem("offset") === null) {
    const writer = await DurableStream.create({ url, contentType: "application/json", batching: false, warnOnHttp: false })
    for (let number = 0; number < 3; number++) await writer.append(JSON.stringify({ number }))
    await follow(3)
    await report({ name: "three messages come", error: null })
    for (let number = 3; number < 5; number++) await writer.append(JSON.stringify({ number }))
    location.reload()
  } else {
    const numbers = (await follow(5)).map((message) => message.number)
    const right = JSON.stringify(numbers) === "[0,1,2,3,4]"
    await report({ name: "after a reload two more come, and none twice", error: right ? null : JSON.stringify(numbers) })
    await report({ done: true, count: 2 })
  }
} catch (error) {
  await report({ name: "the page", error: String(error) })
  await report({ done: true, count: 2 })
}
