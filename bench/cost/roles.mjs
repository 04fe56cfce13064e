// Loaded into every thread of a server under test: notes which thread has which role.
import { appendFileSync, readlinkSync } from 'node:fs';
import { isMainThread, workerData } from 'node:worker_threads';

const role = () => {
  if (isMainThread) return Number(process.env.FRONTS ?? 1) > 1 ? 'main' : 'front';
  if (workerData?.sharesPort !== undefined) return 'front';
  if (workerData?.modelFile) return 'engine';
  return workerData?.maxPixels ? 'decode' : 'other';
};
if (process.env.ROLES_FILE) {
  const thread = readlinkSync('/proc/thread-self').split('/').at(-1);
  appendFileSync(process.env.ROLES_FILE, `${thread} ${role()}\n`);
}
