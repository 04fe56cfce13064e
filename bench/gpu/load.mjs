/** Says whether onnxruntime loads the execution provider: node bench/gpu/load.mjs --provider cuda */
import { createSession, feedsOf, readModel, readOptions } from './model.mjs';

const { provider, model } = readOptions();
const { manifest, file } = await readModel(model);
const session = await createSession(file, provider);
const { logits } = await session.run(feedsOf(manifest, 'F'.repeat(manifest.flags.length), 1));
process.stdout.write(`${provider} loads: ${manifest.name} gives ${logits.dims.join('x')} logits\n`);
await session.release();
