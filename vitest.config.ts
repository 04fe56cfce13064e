import { readFileSync, readdirSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

const files = readdirSync('test', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.ts'))
  .map((file) => `test/${file}`);

/** A test that starts a process (a server, a browser, a tool) or needs the build is a system test. */
const STARTS_A_PROCESS =
  /(server|browser|tools|cluster)\.ts'|clients\/python|node:child_process|\.\.\/dist\//;
const system = files.filter((file) => STARTS_A_PROCESS.test(readFileSync(file, 'utf8')));
/** Without those whose front is the main thread whatever is set, or whose subject is a client. */
const http = system.filter((file) => /^test\/http\/(?!access|cors|form-clients)/.test(file));

export default defineConfig({
  test: {
    // Files that start a real server share two cores at most, or their budgets would not hold.
    maxWorkers: 2,
    // The small model, where a test names no other: it is ready soonest.
    env: { MODEL_DIR: 'models/cifar10' },
    // A server that starts on a busy machine may take half a minute.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // So may what is waited for, where one second is the default.
    expect: { poll: { timeout: 20_000 } },
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: system },
      },
      { extends: true, test: { name: 'system', include: system } },
      // What holds of HTTP holds of a front, too: a thread beside the one that decides.
      { extends: true, test: { name: 'fronts', include: http, env: { FRONTS: '2' } } },
    ],
  },
});
