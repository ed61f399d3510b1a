import { defineConfig } from "vitest/config"

export default defineConfig({
  cacheDir: `.vite`,
  test: {
    include: [process.env.CONFORMANCE_SUITE ?? `suite.test.mjs`],
    exclude: [],
    passWithNoTests: false,
    retry: 0,
    allowOnly: false,
    reporters: [`./reporter.mjs`],
  },
})
