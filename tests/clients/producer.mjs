// node producer.mjs BASE: the official idempotent producer, alone, restarted, fenced off and closing.
import assert from "node:assert/strict"
import { DurableStream, IdempotentProducer, StaleEpochError } from "@durable-streams/client"

const base = process.argv[2]
const range = (from, to) => Array.from({ length: to - from }, (_, n) => from + n)
const make = async (name) => DurableStream.create({ url: `${base}/v1/stream/npm-producer/${name}`, contentType: `application/json` })
const content = async (stream) => (await stream.stream({ offset: `-1`, live: false })).json()
const statuses = []
const watched = async (...args) => {
  const response = await fetch(...args)
  statuses.push(response.status)
  return response
}
const options = (errors) => ({ lingerMs: 0, maxBatchBytes: 64, onError: (error) => errors.push(error), fetch: watched })

// Many small batches in flight at once: all there, in order, once.
const errors = []
const stream = await make(`pipelined`)
const producer = new IdempotentProducer(stream, `p`, { ...options(errors), maxInFlight: 5 })
for (const n of range(0, 1000)) producer.append(JSON.stringify(n))
await producer.flush()
assert.deepEqual(errors, [])
assert.deepEqual(await content(stream), range(0, 1000))
assert.equal(producer.lastSuccessfulOffset, (await stream.head()).offset)
assert.ok(statuses.length > 20, `${statuses.length} requests are no pipeline`)

// The same producer, epoch and sequence again, from a process that knows nothing: duplicates, nothing is added.
statuses.length = 0
const again = new IdempotentProducer(stream, `p`, options(errors))
again.append(JSON.stringify(`again`))
await again.flush()
assert.deepEqual(statuses, [204])
assert.equal((await content(stream)).length, 1000)

// A restart takes a higher epoch; what still writes in the old one is fenced off, once.
await producer.restart()
producer.append(JSON.stringify(1000))
await producer.flush()
again.append(JSON.stringify(`zombie`))
await again.flush()
assert.equal(errors.length, 1)
assert.ok(errors[0] instanceof StaleEpochError && errors[0].currentEpoch === 1, String(errors[0]))
const claimed = new IdempotentProducer(stream, `p`, { ...options(errors), autoClaim: true })
claimed.append(JSON.stringify(1001))
await claimed.flush()
assert.equal(claimed.epoch, 2)
assert.deepEqual(await content(stream), range(0, 1002))

// Closing with a last message, and the same close once more by hand: a duplicate, not a conflict.
const closing = await make(`closing`)
const closer = new IdempotentProducer(closing, `p`, options(errors))
closer.append(JSON.stringify(0))
const { finalOffset } = await closer.close(JSON.stringify(1))
assert.deepEqual(await content(closing), [0, 1])
const headers = { "producer-id": `p`, "producer-epoch": `0`, "producer-seq": `1`, "stream-closed": `true`, "content-type": `application/json` }
const repeated = await fetch(closing.url, { method: `POST`, headers, body: `[1]` })
assert.deepEqual([repeated.status, repeated.headers.get(`stream-closed`)], [204, `true`])
assert.equal((await closing.head()).offset, finalOffset)

// writable(): a stream piped in is stored and closed.
const piped = await DurableStream.create({ url: `${base}/v1/stream/npm-producer/piped`, contentType: `text/plain` })
await new Blob([`x`.repeat(300_000)]).stream().pipeTo(piped.writable())
assert.equal(await (await piped.stream({ offset: `-1`, live: false })).text(), `x`.repeat(300_000))
assert.equal((await piped.head()).streamClosed, true)
assert.equal(errors.length, 1)
console.log(`ok`)
