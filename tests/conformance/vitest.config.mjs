import { defineConfig } from "vitest/config"

export default defineConfig({
  cacheDir: `.vite`,
  test: {
    include: [process.env.CONFORMANCE_SUITE ?? `suite.test.mjs`],
    exclude: [],
    passWithNoTests: false,
    retry: 0,
    // Twice the default: one test compares 100 KiB byte by byte, 4 s of this program's own time where others work too.
    testTimeout: 10_000,
    allowOnly: false,
    reporters: [`./reporter.mjs`],
  },
})
