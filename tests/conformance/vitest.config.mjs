import { defineConfig } from "vitest/config"

export default defineConfig({
  cacheDir: `.vite`,
  test: {
    include: [process.env.CONFORMANCE_SUITE ?? `suite.test.mjs`],
    exclude: [],
    passWithNoTests: false,
    retry: 0,
    // The default is 5 s, of which one test (it compares 100 KiB byte by byte) takes four where others work, too.
    testTimeout: 30_000,
    allowOnly: false,
    reporters: [`./reporter.mjs`],
  },
})
