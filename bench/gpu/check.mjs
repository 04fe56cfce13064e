/**
 * Proves that the execution provider computes what the CPU computes, that the convolutions are its
 * own, and that the server uses it.
 *
 *   node bench/gpu/check.mjs [--provider cuda|cpu] [--model FOLDER] [--out FOLDER] [--quick]
 *
 * Exit code 1 when something does not hold. Results: check-<model>.json in --out.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { photosOf, readModel, readOptions, writeResults } from './model.mjs';
import { client, startServer } from './server.mjs';

/** Largest difference of logits, relative to the largest logit. */
const TOLERANCE = 1e-3;
/** What takes the time. The rest may be elsewhere, such as the arithmetic of shapes. */
const HEAVY = /Conv|Gemm|MatMul/;

const options = readOptions();
const { provider, model, out, port, quick } = options;
const { manifest } = await readModel(model);
const results = { model: manifest.name, provider, failures: [] };

// The most important first: what comes later is lost if time runs out.
const { ready, answers } = await classify();
if (ready.provider !== provider) results.failures.push(`the server runs on ${ready.provider}`);
const wrong = answers.filter(({ status }) => status !== 200);
if (wrong.length > 0) results.failures.push(`${wrong.length} photos not answered`);
await note({ providerOfServer: ready.provider, answers });

const float32 = await script('parity.mjs', { NVIDIA_TF32_OVERRIDE: '0' });
for (const { skip, batch, relative } of float32) {
  // Logits that are no number come as null.
  if (relative === null || relative > TOLERANCE)
    results.failures.push(`${skip}, batch ${batch}: logits differ`);
}
await note({ float32 });

const placement = await script('placement.mjs');
results.failures.push(...Object.entries(placement).flatMap(misplaced));
await note({ placement });
await note({ tf32: await script('parity.mjs') });
process.exitCode = results.failures.length > 0 ? 1 : 0;

function note(more) {
  return writeResults(out, `check-${manifest.name}`, Object.assign(results, more));
}

/** Why a sub-network does not run where it should; from the provider, operators and their calls. */
function misplaced([skip, operatorsOf]) {
  const heavy = Object.entries(operatorsOf).flatMap(([where, operators]) =>
    Object.keys(operators).flatMap((name) => (HEAVY.test(name) ? [{ name, where }] : [])),
  );
  if (heavy.length === 0) return [`${skip}: no operators seen`];
  const elsewhere = heavy.filter(({ where }) => where !== provider.toUpperCase());
  return elsewhere.map(({ name, where }) => `${skip}: ${name} on ${where}`);
}

/** Runs one of the scripts here in a process of its own: TF32 is decided once per process. */
async function script(file, env = {}) {
  const path = new URL(file, import.meta.url).pathname;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [path, '--provider', provider, '--model', model, ...(quick ? ['--quick'] : [])],
    { env: { ...process.env, ...env }, maxBuffer: 1e8 },
  );
  return JSON.parse(stdout);
}

/** What the server answers to the model's photos. */
async function classify() {
  const server = await startServer({
    PORT: port,
    MODEL_DIR: model,
    EXECUTION_PROVIDER: provider,
    ENGINE_WORKERS: '1',
  });
  try {
    const headers = { 'content-type': 'application/octet-stream', 'x-latency-budget-ms': '10000' };
    const send = client(1);
    const rows = [];
    for (const photo of await photosOf(model)) {
      const file = await readFile(photo);
      const { status, body } = await send(`${server.url}/classify`, file, headers);
      const answer = JSON.parse(body);
      const best = answer.predictions?.[0];
      rows.push({ photo, status, ...best, skip: answer.subNetwork?.skip, code: answer.code });
    }
    return { ready: server.ready, answers: rows };
  } finally {
    await server.stop();
  }
}
