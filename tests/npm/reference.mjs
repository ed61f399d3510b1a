// The npm reference server, for comparison: node reference.mjs PORT [DATA_DIR]. In memory without a folder.
import { DurableStreamTestServer } from "@durable-streams/server"

const [port, dataDir] = process.argv.slice(2)
const server = new DurableStreamTestServer({
  port: Number(port),
  host: `127.0.0.1`,
  longPollTimeout: 500,
  ...(dataDir ? { dataDir } : {}),
})
const url = await server.start()
process.on(`SIGTERM`, () => {
  void server.stop().then(() => process.exit(0))
})
console.log(`ready http=${url}`)
