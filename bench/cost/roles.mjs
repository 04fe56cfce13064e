// Loaded into every thread of a server under test: notes which thread has which role.
import { appendFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { isMainThread } from 'node:worker_threads';

const ROLES = { 'front-thread.js': 'front', 'worker.js': 'engine', 'decoder-thread.js': 'decode' };

const role = () => {
  if (isMainThread) return Number(process.env.FRONTS ?? 1) > 1 ? 'main' : 'front';
  return ROLES[basename(process.argv[1])] ?? 'other';
};
if (process.env.ROLES_FILE) {
  const thread = readlinkSync('/proc/thread-self').split('/').at(-1);
  appendFileSync(process.env.ROLES_FILE, `${thread} ${role()}\n`);
}
