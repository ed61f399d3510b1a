// node resend.mjs BASE: a producer meets a stream that somebody else has closed. The official producer takes a 409
// without Producer-Expected-Seq for "0 expected" and, beyond its first batch, sends the same batch again for ever.
// Required here: each batch is sent once, and refused with one error.
import assert from "node:assert/strict"
import { DurableStream, IdempotentProducer, SequenceGapError } from "@durable-streams/client"

const base = process.argv[2]
const BOUND = 50

for (const batches of [1, 5]) {
  const url = `${base}/v1/stream/npm-resend/${batches}`
  const stream = await DurableStream.create({ url, contentType: `text/plain` })
  const give = new AbortController()
  const errors = []
  let requests = 0
  const counted = (...args) => {
    if (++requests > BOUND) give.abort()
    return fetch(...args)
  }
  const producer = new IdempotentProducer(stream, `p`, {
    lingerMs: 1000,
    maxBatchBytes: 10,
    fetch: counted,
    signal: give.signal,
    onError: (error) => errors.push(error),
  })
  for (const n of [0, 1, 2]) {
    producer.append(`accepted ${n}`)
    await producer.flush()
  }
  await stream.close()
  const { offset } = await stream.head()

  requests = 0
  for (let n = 0; n < batches; n++) producer.append(`too late ${n}`)
  await producer.flush()
  console.log(`${batches} batches: ${requests} requests, ${errors.length} errors, the first: ${errors[0]}`)
  assert.ok(requests <= BOUND, `endless resend: the batches were sent more than ${BOUND} times`)
  assert.equal(requests, batches)
  assert.equal(errors.length, batches)
  for (const error of errors) assert.ok(error instanceof SequenceGapError, String(error))

  // Closing what is closed already, as the client does at the end of a pipe: one error too.
  requests = 0
  await assert.rejects(producer.close(`too late`), (error) => error.status === 409)
  assert.equal(requests, 1)
  assert.equal((await stream.head()).offset, offset)
}
console.log(`ok`)
