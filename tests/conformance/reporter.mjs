// Counts what really ran. Vitest's own JSON report calls the tests under a failed hook "skipped" and the run may
// still look green, so every error of a module, a suite or a hook is counted here as a failure of its own.
// One JSON object a line, written as it happens: a run that is cut off still tells what failed.
import { appendFileSync } from "node:fs"

const write = (record) => appendFileSync(process.env.CONFORMANCE_REPORT, JSON.stringify(record) + `\n`)
const text = (errors) => errors.map((error) => String(error?.stack ?? error?.message ?? error)).join(`\n`)

export default class Reporter {
  onTestCaseResult(test) {
    const { state, errors } = test.result()
    write({ kind: `test`, name: test.fullName, state, ms: Math.round(test.diagnostic()?.duration ?? 0), error: text(errors ?? []) })
  }

  onTestRunEnd(modules, unhandled, reason) {
    const states = {}
    const count = (state) => (states[state] = (states[state] ?? 0) + 1)
    const broken = (name, errors) => errors.length > 0 && write({ kind: `error`, name, error: text(errors) })
    for (const module of modules) {
      broken(module.moduleId, module.errors())
      for (const suite of module.children.allSuites()) broken(suite.fullName, suite.errors())
      for (const test of module.children.allTests()) count(test.result().state)
    }
    broken(`outside of any test`, unhandled)
    write({ kind: `end`, reason, modules: modules.length, states })
  }
}
