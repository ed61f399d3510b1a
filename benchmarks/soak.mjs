// node soak.mjs BASE MEGABYTES_PER_SECOND TOTAL_MEGABYTES: the official client writes half of the load to streams that
// end by the TTL of their prefix (a new one every 10 s), half to one that is kept to a size. Prints a line a second.
import { DurableStream } from "@durable-streams/client"
import { randomBytes } from "node:crypto"

const [base, rate, total] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])]
const SIZE = 100_000
const NEW_EVERY_MS = 10_000
const contentType = `application/octet-stream`
// Bytes that do not compress, different each time, without making them anew each time.
const noise = randomBytes(SIZE * 2)
const body = (n) => noise.subarray((n * 7919) % SIZE, ((n * 7919) % SIZE) + SIZE)
const make = (path) => DurableStream.create({ url: `${base}/v1/stream/${path}`, contentType })
const taken = []
let sent = 0
let failed = 0

async function write(next) {
  const perSecond = (rate * 1e6) / 2 / SIZE
  const begun = performance.now()
  let count = 0
  while (sent * SIZE < total * 1e6) {
    const stream = await next()
    const at = performance.now()
    try {
      await stream.append(body(count))
      taken.push(performance.now() - at)
      sent += 1
    } catch (error) {
      failed += 1
      console.error(String(error))
    }
    count += 1
    const due = begun + (count / perSecond) * 1000
    if (due > performance.now()) await new Promise((done) => setTimeout(done, due - performance.now()))
  }
}

let number = 0
let current
let madeAt = -Infinity
const withTtl = async () => {
  if (performance.now() - madeAt > NEW_EVERY_MS) {
    madeAt = performance.now()
    current = await make(`ttl/${number++}`)
  }
  return current
}
const sized = await make(`size/log`)

const report = () => {
  const times = taken.splice(0).sort((a, b) => a - b)
  if (times.length) {
    const quantile = (q) => times[Math.min(times.length - 1, Math.floor(times.length * q))]
    console.log(JSON.stringify({ sent: sent * SIZE, failed, p50: quantile(0.5), p99: quantile(0.99) }))
  }
}
const timer = setInterval(report, 1000)
await Promise.all([write(withTtl), write(async () => sized)])
clearInterval(timer)
report()
