/**
 * Which provider runs which operators, per sub-network, from onnxruntime's profile.
 *
 *   node bench/gpu/placement.mjs --provider cuda --model FOLDER
 *
 * Copies between GPU and CPU that onnxruntime had to insert appear as Memcpy operators. Prints
 * one line of JSON: {skip: {provider: {operator: calls}}}.
 */
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSession, feedsOf, ladderOf, readModel, readOptions } from './model.mjs';

const { provider, model } = readOptions();
const { manifest, file } = await readModel(model);

const placement = {};
for (const skip of ladderOf(manifest)) placement[skip] = await profile(skip);
process.stdout.write(`${JSON.stringify(placement)}\n`);

/** Operators of one call, by provider. */
async function profile(skip) {
  const folder = await mkdtemp(join(tmpdir(), 'placement-'));
  const settings = { enableProfiling: true, profileFilePrefix: join(folder, 'profile') };
  const session = await createSession(file, provider, settings);
  await session.run(feedsOf(manifest, skip, 1));
  session.endProfiling();
  await session.release();
  const [name] = await readdir(folder);
  const events = JSON.parse(await readFile(join(folder, name), 'utf8'));
  await rm(folder, { recursive: true });

  const counts = {};
  for (const { name: event, args } of events) {
    if (!event?.endsWith('_kernel_time') || !args?.op_name) continue;
    const operators = (counts[args.provider.replace('ExecutionProvider', '')] ??= {});
    operators[args.op_name] = (operators[args.op_name] ?? 0) + 1;
  }
  return counts;
}
