// The official suite, unmodified, against the server named by CONFORMANCE_URL. Subscriptions are off.
import { runConformanceTests } from "@durable-streams/server-conformance-tests"

const baseUrl = process.env.CONFORMANCE_URL
if (!baseUrl) throw new Error(`CONFORMANCE_URL is not set`)
runConformanceTests({ baseUrl, longPollTimeoutMs: 500 })
