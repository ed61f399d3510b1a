// node tail.mjs BASE long-poll|sse: follows streams of each kind while another handle writes, to the very end.
import assert from "node:assert/strict"
import { DurableStream } from "@durable-streams/client"

const [base, live] = process.argv.slice(2)
let requests = 0
const counted = (...args) => (requests++, fetch(...args))

const kinds = {
  "application/json": { write: (n) => JSON.stringify({ n, text: `zwölf\n☂` }), subscribe: `subscribeJson` },
  "text/plain": { write: (n) => `line ${n} ☂\n`, subscribe: `subscribeText` },
  "application/octet-stream": { write: (n) => Uint8Array.of(n, 0, 10, 13, 255), subscribe: `subscribeBytes` },
}

for (const [contentType, { write, subscribe }] of Object.entries(kinds)) {
  const url = `${base}/v1/stream/npm-tail/${live}/${contentType.replace(`/`, `-`)}`
  const writer = await DurableStream.create({ url, contentType, batching: false })
  const sent = Array.from({ length: 20 }, (_, n) => write(n))
  await writer.append(sent[0])
  requests = 0

  const reader = new DurableStream({ url, fetch: counted })
  const session = await reader.stream({ offset: `-1`, live })
  const got = []
  const offsets = []
  let arrived
  session[subscribe]((batch) => {
    got.push(...(batch.items ?? [batch.text ?? batch.data]))
    offsets.push(batch.offset)
    arrived?.()
  })
  const count = () => (contentType === `application/json` ? got.length : Buffer.concat(got.map((part) => Buffer.from(part))).length)
  const size = (n) => (contentType === `application/json` ? n : Buffer.concat(sent.slice(0, n).map((part) => Buffer.from(part))).length)
  // Each message is awaited by the reader before the next is written, so that all of them are tailed, not caught up.
  // The last one comes with the close: it and the end must reach a reader that waits. (The client calls its session
  // closed before it has handed out the last message, so closed alone is not waited for.)
  const lost = setTimeout(() => assert.fail(`${contentType}: ${count()} of ${size(sent.length)} came within 10 s`), 10_000)
  for (let n = 1; n <= sent.length; n++) {
    while (count() < size(n)) await new Promise((resolve) => (arrived = resolve))
    if (n < sent.length - 1) await writer.append(sent[n])
    else if (n < sent.length) await writer.close({ body: sent[n] })
  }
  await session.closed
  clearTimeout(lost)

  if (contentType === `application/json`) assert.deepEqual(got, sent.map((part) => JSON.parse(part)))
  else assert.deepEqual(Buffer.concat(got.map((part) => Buffer.from(part))), Buffer.concat(sent.map((part) => Buffer.from(part))))
  assert.deepEqual(offsets, [...offsets].sort(), `offsets never go back`)
  assert.equal(session.streamClosed, true)
  assert.equal(session.offset, (await writer.head()).offset)
  const bound = live === `sse` ? 5 : 2 * sent.length + 5
  assert.ok(requests <= bound, `${requests} requests for ${contentType}, at most ${bound} expected`)

  // A session begun at the end of a closed stream ends by itself.
  const after = await reader.stream({ offset: session.offset, live })
  after[subscribe](() => assert.fail(`nothing is left to read`))
  await after.closed
  assert.equal(after.streamClosed, true)
  console.log(`${live} ${contentType}: ${requests} requests`)
}
console.log(`ok`)
