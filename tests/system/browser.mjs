// Runs in the browser, on another origin than the server's: the unmodified npm client, then plain fetch for every
// header a page must be able to read. Reports each check to its own origin, as it is done.
import { DurableStream, IdempotentProducer } from "@durable-streams/client"

const base = new URLSearchParams(location.search).get(`server`)
const url = (name) => `${base}/v1/stream/browser/${name}`
const send = (record) => fetch(`/report`, { method: `POST`, body: JSON.stringify(record) })
const same = (got, want, what) => {
  if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`${what}: ${JSON.stringify(got)}, not ${JSON.stringify(want)}`)
}

// Follows a stream while another handle writes; each message is awaited before the next is written.
async function tail(name, contentType, live, messages, subscribe, plain) {
  const writer = await DurableStream.create({ url: url(name), contentType, batching: false, warnOnHttp: false })
  const got = []
  let arrived
  await writer.append(messages[0])
  const session = await new DurableStream({ url: url(name), warnOnHttp: false }).stream({ offset: `-1`, live })
  session[subscribe]((batch) => {
    got.push(...plain(batch))
    arrived?.()
  })
  const want = messages.map((message) => (typeof message === `string` ? JSON.parse(message) : [...message])).flat()
  const upTo = (n) => messages.slice(0, n).map((message) => (typeof message === `string` ? [0] : [...message])).flat().length
  // The last one comes with the close: it and the end must reach a reader that waits.
  for (let n = 1; n <= messages.length; n++) {
    while (got.length < upTo(n)) await new Promise((resolve) => (arrived = resolve))
    if (n < messages.length - 1) await writer.append(messages[n])
    else if (n < messages.length) await writer.close({ body: messages[n] })
  }
  await session.closed
  same(got, want, `what was tailed`)
  same(session.streamClosed, true, `streamClosed`)
}

const json = [1, 2, 3, 4].map((n) => JSON.stringify({ n, text: `zwölf\n☂` }))
const binary = [1, 2, 3, 4].map((n) => Uint8Array.of(n, 0, 10, 13, 128, 255))
const items = (batch) => batch.items
const bytes = (batch) => [...batch.data]

// One answer's header, or why it is missing: a header that is not exposed reads as null.
async function header(name, path, init, test) {
  // Past the browser's cache: it would answer a HEAD from what an earlier GET left there.
  const response = await fetch(path, { ...init, cache: `no-store` })
  const value = response.headers.get(name)
  await response.body?.cancel()
  if (value === null || !test(value)) throw new Error(`${init?.method ?? `GET`} ${path} answered ${response.status}, ${name}: ${value}`)
}
const post = (headers, body) => ({ method: `POST`, headers: { "content-type": `text/plain`, ...headers }, body })
const producer = (epoch, seq) => ({ "producer-id": `p`, "producer-epoch": `${epoch}`, "producer-seq": `${seq}` })
const offset = (value) => /^\d{16}_\d{16}$/.test(value)
const is = (want) => (value) => value.toLowerCase() === want
const some = (value) => value !== ``
const put = (headers) => ({ method: `PUT`, headers: { "content-type": `text/plain`, ...headers } })

const checks = {
  "create, append, read": async () => {
    const stream = await DurableStream.create({ url: url(`basic`), contentType: `application/json`, ttlSeconds: 600, warnOnHttp: false })
    await stream.append(`{"n":1}`)
    const errors = []
    const writer = new IdempotentProducer(stream, `p`, { lingerMs: 0, onError: (error) => errors.push(String(error)) })
    writer.append(`{"n":2}`)
    await writer.flush()
    same(errors, [], `errors of the producer`)
    same(await (await stream.stream({ offset: `-1`, live: false })).json(), [{ n: 1 }, { n: 2 }], `what was read`)
    same((await stream.head()).contentType, `application/json`, `content type`)
    await stream.delete()
    same((await stream.head()).exists, false, `exists`)
  },
  "tail JSON by SSE": () => tail(`sse-json`, `application/json`, `sse`, json, `subscribeJson`, items),
  "tail bytes by SSE": () => tail(`sse-bytes`, `application/octet-stream`, `sse`, binary, `subscribeBytes`, bytes),
  "tail JSON by long-poll": () => tail(`poll-json`, `application/json`, `long-poll`, json, `subscribeJson`, items),
  "tail bytes by long-poll": () => tail(`poll-bytes`, `application/octet-stream`, `long-poll`, binary, `subscribeBytes`, bytes),
  "fork": async () => {
    await header(`location`, url(`fork`), put({ "stream-forked-from": `/v1/stream/browser/sse-json`, "content-type": `application/json` }), some)
    const fork = await new DurableStream({ url: url(`fork`), warnOnHttp: false }).stream({ offset: `-1`, live: false })
    same(await fork.json(), json.map((message) => JSON.parse(message)), `what the fork holds`)
  },
  "conditional read": async () => {
    const { headers } = await fetch(url(`sse-json`))
    const again = await fetch(url(`sse-json`), { headers: { "if-none-match": headers.get(`etag`) }, cache: `no-store` })
    same(again.status, 304, `status`)
  },
}

// Made once, then read through by the header checks below, in this order.
const h = url(`headers`)
const readable = [
  [`location`, h, put({ "stream-ttl": `600` }), some],
  [`stream-next-offset`, h, post({ "stream-seq": `a`, authorization: `Bearer x` }, `x`), offset],
  [`stream-next-offset`, h, undefined, offset],
  [`stream-up-to-date`, h, undefined, is(`true`)],
  [`etag`, h, undefined, some],
  [`stream-cursor`, `${h}?offset=-1&live=long-poll`, undefined, some],
  [`stream-ttl`, h, { method: `HEAD` }, is(`600`)],
  [`producer-epoch`, h, post(producer(0, 0), `x`), is(`0`)],
  [`producer-seq`, h, post(producer(0, 1), `x`), is(`1`)],
  [`producer-expected-seq`, h, post(producer(0, 9), `x`), is(`2`)],
  [`producer-received-seq`, h, post(producer(0, 9), `x`), is(`9`)],
  [`stream-expires-at`, `${h}-expires`, put({ "stream-expires-at": `2099-01-01T00:00:00Z` }), () => true],
  [`stream-expires-at`, `${h}-expires`, { method: `HEAD` }, some],
  [`stream-closed`, h, post({ "stream-closed": `true` }), is(`true`)],
  [`stream-closed`, h, undefined, is(`true`)],
  [`stream-sse-data-encoding`, `${url(`sse-bytes`)}?offset=-1&live=sse`, undefined, is(`base64`)],
]
readable.forEach(([name, path, init, test], n) => {
  if (name === `stream-expires-at` && init.method === `PUT`) checks[`make a stream that expires`] = () => fetch(path, init)
  else checks[`header ${name} (${n + 1}: ${init?.method ?? `GET`})`] = () => header(name, path, init, test)
})

window.addEventListener(`unhandledrejection`, (event) => send({ name: `unhandled rejection`, error: String(event.reason) }))
for (const [name, check] of Object.entries(checks)) {
  const error = await Promise.race([
    Promise.resolve().then(check).then(() => null, (thrown) => String(thrown?.message ?? thrown)),
    new Promise((resolve) => setTimeout(() => resolve(`did not end within 10 s`), 10_000)),
  ])
  await send({ name, error })
}
await send({ done: true, count: Object.keys(checks).length })
