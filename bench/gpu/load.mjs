/** Says whether onnxruntime loads the execution provider: node bench/gpu/load.mjs --provider cuda */
import { performance } from 'node:perf_hooks';
import { createSession, feedsOf, readModel, readOptions, writeResults } from './model.mjs';

const { provider, model, out } = readOptions();
const { manifest, file } = await readModel(model);
const started = performance.now();
const session = await createSession(file, provider);
const { logits } = await session.run(feedsOf(manifest, 'F'.repeat(manifest.flags.length), 1));
const firstAnswerMs = performance.now() - started;
await session.release();
await writeResults(out, 'load', { provider, firstAnswerMs, logits: logits.dims });
