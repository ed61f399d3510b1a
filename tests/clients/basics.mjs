// node basics.mjs BASE: creates, appends, reads in each form, HEAD, closes, deletes.
import assert from "node:assert/strict"
import { DurableStream, FetchError, StreamClosedError, stream } from "@durable-streams/client"

const base = process.argv[2]
const backoffOptions = { maxRetries: 0 }
const url = (name) => `${base}/v1/stream/npm-basics/${name}`
const start = `-1`

// JSON: every value as it was sent, an array inside an array too, and half an emoji.
const values = [{ n: 1 }, [1, [2]], `text`, 3.5, null, true, `\ud83d`]
const json = await DurableStream.create({ url: url(`json`), contentType: `application/json`, batching: false })
for (const value of values) await json.append(JSON.stringify(value))
const read = await json.stream({ offset: start, live: false })
assert.deepEqual(await read.json(), values)
assert.equal(read.upToDate, true)
assert.equal(read.streamClosed, false)

// Reading on from the offset kept gives only what is new.
await json.append(JSON.stringify({ n: 2 }))
const rest = await json.stream({ offset: read.offset, live: false })
assert.deepEqual(await rest.json(), [{ n: 2 }])
assert.ok(rest.offset > read.offset)

// Appends not awaited one by one travel together, and keep their order.
const batched = await DurableStream.create({ url: url(`batched`), contentType: `application/json` })
await Promise.all(Array.from({ length: 500 }, (_, n) => batched.append(JSON.stringify(n))))
assert.deepEqual(await (await batched.stream({ offset: start, live: false })).json(), Array.from({ length: 500 }, (_, n) => n))

// Text and bytes.
const text = await DurableStream.create({ url: url(`text`), contentType: `text/plain`, body: `first, ` })
await text.append(`zwölf ☂`)
assert.equal(await (await text.stream({ offset: start, live: false })).text(), `first, zwölf ☂`)
const every = Uint8Array.from({ length: 256 }, (_, n) => n)
const bytes = await DurableStream.create({ url: url(`bytes`) })
await bytes.append(every)
await bytes.append(every)
assert.deepEqual(await (await bytes.stream({ offset: start, live: false })).body(), new Uint8Array([...every, ...every]))

// HEAD, create again, connect.
const head = await json.head()
assert.deepEqual([head.exists, head.contentType, head.offset, head.streamClosed], [true, `application/json`, rest.offset, false])
await DurableStream.create({ url: url(`json`), contentType: `application/json` })
await assert.rejects(DurableStream.create({ url: url(`json`), contentType: `text/plain` }), (error) => error.status === 409)
assert.equal((await DurableStream.connect({ url: url(`text`) })).contentType, `text/plain`)

// Stream-Seq: refused unless it grows.
await text.append(`!`, { seq: `b` })
await assert.rejects(text.append(`?`, { seq: `a` }), (error) => error.status === 409)

// Close with a last message, close again, append to what is closed.
const { finalOffset } = await json.close({ body: JSON.stringify(`last`) })
assert.equal((await json.close()).finalOffset, finalOffset)
const ended = await json.stream({ offset: rest.offset, live: false })
assert.deepEqual(await ended.json(), [`last`])
assert.equal(ended.streamClosed, true)
assert.equal((await json.head()).streamClosed, true)
await assert.rejects(json.append(`1`), (error) => error instanceof StreamClosedError || error.status === 409)

// Delete. Errors of every kind are thrown once, at once.
await text.delete()
assert.equal((await DurableStream.head({ url: url(`text`) })).exists, false)
await assert.rejects(stream({ url: url(`text`), offset: start, live: false, backoffOptions }), (error) => error.status === 404)
await assert.rejects(stream({ url: url(`json`), offset: `nonsense`, live: false, backoffOptions }), (error) => {
  return error instanceof FetchError && error.status === 400
})
console.log(`ok`)
