/**
 * What a request costs, by thread role, against the limit: libjpeg and raw onnxruntime on the same
 * images and batch sizes, in the same run. Checkouts must be built and take turns.
 * docs/cost-of-a-request.md has the results.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { median } from '../median.ts';
import { Limit } from './limit.ts';
import { load } from './load.ts';
import type { Loaded } from './load.ts';
import { MeasuredServer } from './server.ts';

const { values } = parseArgs({
  options: {
    /** Folders of built checkouts, taken in turn. */
    checkout: { type: 'string', multiple: true, default: ['.'] },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    /** Regular expression: the cells that match it, e.g. `CIFAR-10 .* one core`, or `refused`. */
    only: { type: 'string', default: '' },
    json: { type: 'string' },
  },
});

const MODELS = {
  grocery: 'models/grocery',
  'CIFAR-10': 'models/cifar10',
  'nearly free': 'test/fixtures/five-flags',
};
const PHOTO = 'models/cifar10/samples/cat.jpg';
const LOOSE_MS = 2000;

const jpeg = (width: number, height: number) =>
  sharp(readFileSync(PHOTO)).resize(width, height).jpeg().toBuffer();
const IMAGES: Record<string, Buffer> = {
  '32x32': await jpeg(32, 32),
  '341x256': await jpeg(341, 256),
  '348x348': await jpeg(348, 348),
  '1280x960': await jpeg(1280, 960),
};

interface Row {
  readonly startMs: number;
  readonly checkout: string;
  readonly model: string;
  readonly image: string;
  readonly load: string;
  /** Answers/s. */
  readonly rate: number;
  /** ms */
  readonly medianMs: number;
  readonly meanBatch: number;
  /** Processor time per answer, ms, by role. */
  readonly cpu: Readonly<Record<string, number>>;
  readonly cpuMs: number;
  /** Decoding and inference alone, processor ms, one after the other without a pause. */
  readonly limitMs: number;
  /** The same at the rate of the load: median ms by the clock. Absent when saturated. */
  readonly pacedMs?: number;
}

function loadOf(cores: string | undefined, perSecond: number): string {
  if (perSecond > 0) return `${perSecond}/s`;
  return cores ? 'saturated, one core' : 'saturated';
}

async function measure(
  checkout: string,
  model: keyof typeof MODELS,
  image: string,
  cores: string | undefined,
  perSecond: number,
): Promise<Row> {
  const server = await MeasuredServer.start({ checkout, model: MODELS[model], cores });
  const file = IMAGES[image]!;
  const run = (seconds: number, rate: number): Promise<Loaded> =>
    load(server.url, file, LOOSE_MS, {
      seconds,
      perSecond: rate,
      connections: rate > 0 ? 8 : 32,
    });
  // As fast as it goes, so that all code is compiled when the measurement begins.
  await run(4, 0);
  await run(1, perSecond);
  const [cpuBefore, batchesBefore] = [server.cpu(), await server.batches()];
  const loaded = await run(Number(values.seconds), perSecond);
  const [cpuAfter, batchesAfter] = [server.cpu(), await server.batches()];
  await server.stop();

  const cpu = Object.fromEntries(
    Object.entries(cpuAfter).map(([role, ms]) => {
      return [role, (ms - cpuBefore[role as keyof typeof cpuBefore]) / loaded.answered];
    }),
  );
  const limit = await Limit.of(MODELS[model]);
  let images = 0;
  let batches = 0;
  let most = { skip: '', images: 0 };
  let inference = 0;
  for (const [skip, after] of Object.entries(batchesAfter)) {
    const before = batchesBefore[skip] ?? { images: 0, batches: 0 };
    const mine = after.images - before.images;
    if (mine === 0) continue;
    const size = Math.max(1, Math.round(mine / (after.batches - before.batches)));
    images += mine;
    if (mine > most.images) most = { skip, images: mine };
    batches += after.batches - before.batches;
    inference += mine * (await limit.inference(skip, size));
  }
  return {
    startMs: server.startMs,
    checkout,
    model,
    image,
    load: loadOf(cores, perSecond),
    rate: loaded.answered / loaded.seconds,
    medianMs: median(loaded.latencies),
    meanBatch: images / batches,
    cpu,
    cpuMs: Object.values(cpu).reduce((a, b) => a + b, 0),
    limitMs: inference / images + (await limit.decode(file)),
    ...(perSecond > 0 && {
      pacedMs: await limit.paced(file, most.skip, perSecond, Number(values.seconds)),
    }),
  };
}

/** Processor ms of a refusal, all of the server, by what is started: ours, and the least possible. */
interface Refused {
  readonly server: string;
  readonly perSecond: number;
  readonly cpuMs: number;
}

/** Everything is refused: nobody can answer in so short a time, ms. */
const HOPELESS_MS = 0.5;

async function refuse(server: string, script?: string): Promise<Refused> {
  const checkout = script ? '.' : server;
  const model = MODELS['CIFAR-10'];
  const at = await MeasuredServer.start({ checkout, model, cores: '0', script });
  const run = (seconds: number) => load(at.url, IMAGES['32x32']!, HOPELESS_MS, { seconds });
  await run(4);
  const before = at.cpu();
  const { answered, refused, seconds } = await run(Number(values.seconds));
  const after = at.cpu();
  await at.stop();
  if (answered > 0) throw new Error(`${answered} requests were answered`);
  const used = (cpu: typeof after) => Object.values(cpu).reduce((a, b) => a + b, 0);
  const cpuMs = (used(after) - used(before)) / refused;
  return { server: script ?? server, perSecond: refused / seconds, cpuMs };
}

const CELLS: readonly (readonly [keyof typeof MODELS, string, string | undefined, number])[] = [
  ['grocery', '341x256', undefined, 20],
  ['grocery', '341x256', '0', 0],
  ['grocery', '341x256', undefined, 0],
  ['CIFAR-10', '32x32', undefined, 40],
  ['CIFAR-10', '32x32', '0', 0],
  ['CIFAR-10', '32x32', undefined, 0],
  ['CIFAR-10', '348x348', undefined, 40],
  ['CIFAR-10', '348x348', '0', 0],
  ['CIFAR-10', '1280x960', undefined, 20],
  ['CIFAR-10', '1280x960', '0', 0],
  ['nearly free', '32x32', undefined, 100],
  ['nearly free', '32x32', '0', 0],
  ['nearly free', '32x32', undefined, 0],
  ['nearly free', '348x348', '0', 0],
];
const only = new RegExp(values.only);
const cells = CELLS.filter(([model, image, cores, perSecond]) =>
  only.test(`${model} ${image} ${loadOf(cores, perSecond)}`),
);
const refusing = only.test('refused');

const rows: Row[] = [];
const refusals: Refused[] = [];
for (let round = 0; round < Number(values.rounds); round++) {
  for (const checkout of refusing ? values.checkout : []) refusals.push(await refuse(checkout));
  for (const script of refusing ? ['bare', 'fastify'] : []) {
    refusals.push(await refuse(script, `bench/cost/${script}.mjs`));
  }
  for (const cell of cells) {
    for (const checkout of values.checkout) {
      const [model, image, cores, perSecond] = cell;
      rows.push(await measure(checkout, model, image, cores, perSecond));
      process.stderr.write(`${JSON.stringify(rows.at(-1))}\n`);
    }
  }
}
if (values.json) writeFileSync(values.json, `${JSON.stringify({ rows, refusals }, null, 1)}\n`);

const keyOf = ({ checkout, model, image, load }: Row) => [checkout, model, image, load].join('|');
const out = [
  `${cpus()[0]!.model}, ${cpus().length} cores, Node ${process.version}, ${values.rounds} rounds, medians`,
  '',
  '| checkout | model | image | load | answers/s | p50 ms | batch | CPU ms: front | decode | engine | libuv | all | limit | ratio | alone at this rate, p50 ms | start s |',
  '|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|',
];
for (const key of new Set(rows.map(keyOf))) {
  const mine = rows.filter((row) => keyOf(row) === key);
  const of = (read: (row: Row) => number, digits = 2) => median(mine.map(read)).toFixed(digits);
  const roles = ['front', 'decode', 'engine', 'libuv and others'].map((role) =>
    of(({ cpu }) => cpu[role] ?? 0),
  );
  out.push(
    `| ${key.split('|').join(' | ')} | ${of(({ rate }) => rate, 0)} | ${of(({ medianMs }) => medianMs, 1)} | ` +
      `${of(({ meanBatch }) => meanBatch, 1)} | ${roles.join(' | ')} | ${of(({ cpuMs }) => cpuMs)} | ` +
      `${of(({ limitMs }) => limitMs)} | ${of((row) => row.cpuMs / row.limitMs)} | ` +
      `${mine[0]!.pacedMs === undefined ? '' : of(({ pacedMs }) => pacedMs!, 1)} | ${of(({ startMs }) => startMs / 1000, 1)} |`,
  );
}
out.push('', '| all refused, one core | refusals/s | CPU ms each |', '|---|---|---|');
for (const server of new Set(refusals.map((refusal) => refusal.server))) {
  const mine = refusals.filter((refusal) => refusal.server === server);
  const rate = median(mine.map(({ perSecond }) => perSecond));
  out.push(
    `| ${server} | ${rate.toFixed(0)} | ${median(mine.map(({ cpuMs }) => cpuMs)).toFixed(3)} |`,
  );
}
process.stdout.write(`${out.join('\n')}\n`);
