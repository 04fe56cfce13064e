/** A second process that keeps the execution provider busy until SIGTERM. */
import { createSession, feedsOf, readModel, readOptions } from './model.mjs';

const { provider, model } = readOptions();
const { manifest, file } = await readModel(model);
const session = await createSession(file, provider);
const feeds = feedsOf(manifest, 'F'.repeat(manifest.flags.length), 32);
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
await session.run(feeds);
process.stdout.write('busy\n');
while (!stop.signal.aborted) {
  await session.run(feeds);
  // Lets the signal in: a run blocks the thread.
  await new Promise(setImmediate);
}
await session.release();
