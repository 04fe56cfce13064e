// Loaded into every thread of a server: the first engine thread ends before it is used.
import { existsSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { isMainThread } from 'node:worker_threads';

const once = process.env.ENDED_ONCE;
if (!isMainThread && basename(process.argv[1]) === 'worker.js' && !existsSync(once)) {
  writeFileSync(once, '');
  process.exit(3);
}
