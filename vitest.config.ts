import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Files that start a real server share two cores at most, or their budgets would not hold.
    maxWorkers: 2,
    // A server that starts on a busy machine may take half a minute.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
