/**
 * Loaded into every thread of a server under test (`node --import`): its engine threads sleep for as
 * long as STAND_IN_TABLE says that a GPU takes, and answer with the first label. What is left is
 * what the processor does for an answer beside inference.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { InferenceSession } from 'onnxruntime-node';

const { STAND_IN_TABLE, MODEL_DIR } = process.env;
const { latency, tiers } = JSON.parse(readFileSync(STAND_IN_TABLE, 'utf8'));
const { labels, flags } = JSON.parse(readFileSync(join(MODEL_DIR, 'model.json'), 'utf8'));
const bell = new Int32Array(new SharedArrayBuffer(4));

/** ms: of the table's tier that skips about as large a part of its stages. */
function timeOf(skipped, batch) {
  const { skip } = tiers[Math.round((1 - skipped / flags.length) * (tiers.length - 1))];
  const sizes = Object.keys(latency[skip]).map(Number);
  return latency[skip][sizes.find((size) => size >= batch) ?? sizes.at(-1)];
}

InferenceSession.create = async () => ({
  async run(feeds) {
    const skipped = flags.filter((name) => feeds[name].data[0] === 1).length;
    const batch = Object.values(feeds).find(({ dims }) => dims.length === 4).dims[0];
    // Asleep, and not at something else, as a thread is that waits for a GPU.
    Atomics.wait(bell, 0, 0, timeOf(skipped, batch));
    const data = new Float32Array(batch * labels.length);
    for (let image = 0; image < batch; image++) data[image * labels.length] = 20;
    return { logits: { data } };
  },
  async release() {},
});
