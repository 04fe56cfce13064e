// Loaded into every thread of a server: engine threads begin to load SLOW_MS late, and say when they end.
import { writeSync } from 'node:fs';
import { basename } from 'node:path';
import { isMainThread } from 'node:worker_threads';

if (!isMainThread && basename(process.argv[1]) === 'worker.js') {
  process.on('exit', () => writeSync(1, 'an engine thread ends by itself\n'));
  writeSync(1, 'an engine thread begins\n');
  const never = new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(never, 0, 0, Number(process.env.SLOW_MS));
}
