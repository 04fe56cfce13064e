/**
 * Proves that the execution provider computes what the CPU computes, and that the server uses it.
 *
 *   node bench/gpu/check.mjs [--provider cuda|cpu] [--model FOLDER] [--photo FILE] [--out FOLDER]
 *
 * Exit code 1 when something does not hold. Full results: check-<model>.json in --out.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { readModel, readOptions, writeResults } from './model.mjs';
import { client, startServer } from './server.mjs';

/** Largest difference of logits, relative to the largest logit. */
const TOLERANCE = 1e-3;
const PORT = '18080';

const options = readOptions();
const { provider, model, photo, out } = options;
const { manifest } = await readModel(model);

const tf32 = await script('parity.mjs');
const float32 = await script('parity.mjs', { NVIDIA_TF32_OVERRIDE: '0' });
const placement = await script('placement.mjs');
const answer = photo ? await classify() : null;

const failures = [
  ...float32
    .filter(({ relative }) => !(relative <= TOLERANCE))
    .map(({ skip, batch }) => `${skip}, batch ${batch}: logits differ`),
  ...(answer && answer.status !== 200 ? [`the server answered ${answer.status}`] : []),
  ...(answer && answer.provider !== provider ? [`the server runs on ${answer.provider}`] : []),
];
const name = `check-${manifest.name}`;
await writeResults(out, name, { provider, tf32, float32, placement, answer, failures });
report();
process.exitCode = failures.length > 0 ? 1 : 0;

/** Runs one of the scripts here in a process of its own: TF32 is decided once per process. */
async function script(file, env = {}) {
  const path = new URL(file, import.meta.url).pathname;
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [path, '--provider', provider, '--model', model],
    { env: { ...process.env, ...env }, maxBuffer: 1e8 },
  );
  return JSON.parse(stdout);
}

async function classify() {
  const server = await startServer({
    PORT,
    MODEL_DIR: model,
    EXECUTION_PROVIDER: provider,
    ENGINE_WORKERS: '1',
  });
  try {
    const headers = { 'content-type': 'application/octet-stream', 'x-latency-budget-ms': '10000' };
    const { status, body } = await client(1)(
      `${server.url}/classify`,
      await readFile(photo),
      headers,
    );
    return { status, provider: server.ready.provider, body: JSON.parse(body) };
  } finally {
    await server.stop();
  }
}

function report() {
  const worst = (rows) => Math.max(...rows.map(({ relative }) => relative)).toExponential(1);
  const lines = [`${manifest.name} on ${provider}`];
  lines.push(`  largest difference of logits: ${worst(tf32)} (TF32), ${worst(float32)} (float32)`);
  for (const [skip, providers] of Object.entries(placement)) {
    const placed = Object.entries(providers).map(([where, operators]) => {
      const total = Object.values(operators).reduce((sum, calls) => sum + calls, 0);
      const few = provider === 'cuda' && where === 'CPU' ? ` ${JSON.stringify(operators)}` : '';
      return `${total} operators on ${where}${few}`;
    });
    lines.push(`  ${skip}: ${placed.join(', ')}, ${copies(providers)} Memcpy`);
  }
  if (answer) {
    const best = answer.body.predictions?.[0];
    lines.push(
      `  server on ${answer.provider}: ${answer.status}, ${best?.label} ${best?.probability.toFixed(2)}`,
    );
  }
  lines.push(failures.length > 0 ? `FAILED: ${failures.join('; ')}` : 'all holds');
  process.stdout.write(`${lines.join('\n')}\n`);
}

function copies(providers) {
  const operators = Object.values(providers).flatMap((counts) => Object.entries(counts));
  return operators
    .filter(([name]) => name.startsWith('Memcpy'))
    .reduce((sum, [, calls]) => sum + calls, 0);
}
