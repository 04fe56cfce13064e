/**
 * Logits of the execution provider against the CPU's, for every sub-network.
 *
 *   node bench/gpu/parity.mjs --provider cuda --model FOLDER
 *
 * NVIDIA_TF32_OVERRIDE=0 makes CUDA compute in full float32: by default convolutions round
 * their inputs to ten bits (TF32). Prints one line of JSON.
 */
import { availableParallelism } from 'node:os';
import {
  createSession,
  decoded,
  feedsOf,
  ladderOf,
  photosOf,
  readModel,
  readOptions,
} from './model.mjs';

/** Of all images: photos first, then noise. */
const BATCHES = [1, 8];

const { provider, model, quick } = readOptions();
const { manifest, file } = await readModel(model);
const there = await createSession(file, provider);
const here = await createSession(file, 'cpu', { intraOpNumThreads: availableParallelism() });
const photos = await decoded(manifest, await photosOf(model));
const noise = feedsOf(manifest, '', BATCHES.at(-1))[manifest.input.name].data;
const pixels = (index) => photos.pixels[index] ?? noise[index];

const rows = [];
for (const skip of quick ? ladderOf(manifest) : manifest.subNetworks.map((row) => row.skip)) {
  for (const batch of BATCHES) {
    const feeds = feedsOf(manifest, skip, batch, pixels);
    const actual = (await there.run(feeds)).logits.data;
    const expected = (await here.run(feeds)).logits.data;
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const difference = expected.reduce((d, v, i) => Math.max(d, Math.abs(v - actual[i])), 0);
    rows.push({ skip, batch, relative: difference / largest });
  }
}
await there.release();
await here.release();
process.stdout.write(`${JSON.stringify(rows)}\n`);
