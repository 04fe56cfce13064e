/**
 * What more than one front brings, and what one process could feed: answers/s and processor time of
 * an answer by thread role, with the nearly free model, and with engine threads that sleep as long
 * as a GPU would take. docs/cost-of-a-request.md has the results.
 */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { load } from '../cost/load.ts';
import { MeasuredServer } from '../cost/server.ts';
import type { Role } from '../cost/server.ts';
import { median } from '../median.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    fronts: { type: 'string', default: '1,2' },
    /** Rows whose names have this in them. */
    only: { type: 'string', default: '' },
    /** As many as fill the batches of a GPU. */
    connections: { type: 'string', default: '256' },
    /** What a machine of so many cores could answer. */
    cores: { type: 'string', default: '16' },
    /** Answers/s that it should. */
    aim: { type: 'string', default: '8000' },
  },
});
const LOOSE_MS = 5000;
/** Answers after which all code is compiled, in each of the threads; */
const WARM = 20_000;
/** s; at most so long. */
const WARMING = 30;
/** Of a core: a thread that is busier than this makes requests wait. */
const FULL = 0.8;
const TABLE = 'bench/tables/resnet50-gpu.json';
const STAND_IN = { STAND_IN_TABLE: TABLE, ENGINE_WORKERS: '4' };
const ROLES: readonly Role[] = ['front', 'main', 'decode', 'engine', 'libuv and others'];

const jpeg = (file: string, side: number) =>
  sharp(readFileSync(file)).resize(side, side).jpeg().toBuffer();

interface Cell {
  readonly name: string;
  readonly model: string;
  readonly image: Buffer;
  readonly standsIn: boolean;
}

const SMALL = await jpeg('models/cifar10/samples/cat.jpg', 32);
const ALL: readonly Cell[] = [
  {
    name: 'nearly free, 32x32',
    model: 'test/fixtures/five-flags',
    image: SMALL,
    standsIn: false,
  },
  {
    name: 'stand-in engine, 32x32',
    model: 'models/cifar10',
    image: SMALL,
    standsIn: true,
  },
  {
    name: 'stand-in engine, 256x256 to 192x192',
    model: 'models/grocery',
    image: await jpeg('models/grocery/samples/pineapple.jpg', 256),
    standsIn: true,
  },
];
const CELLS = ALL.filter(({ name }) => name.includes(values.only));

interface Row {
  readonly cell: string;
  readonly fronts: number;
  /** Answers/s. */
  readonly rate: number;
  /** Processor time per answer, ms. */
  readonly cpu: Readonly<Record<Role, number>>;
}

async function measure({ name, model, image, standsIn }: Cell, fronts: number): Promise<Row> {
  const env = { FRONTS: String(fronts), ...(standsIn && STAND_IN) };
  const preload = standsIn ? ['bench/fronts/stand-in.mjs'] : [];
  const server = await MeasuredServer.start({ model, env, preload });
  const connections = Number(values.connections);
  const run = (seconds: number, sent = image) =>
    load(server.url, sent, LOOSE_MS, { seconds, connections });
  const began = performance.now();
  for (let done = 0; done < WARM && performance.now() - began < 1000 * WARMING;) {
    done += (await run(2, SMALL)).answered;
  }
  await run(2);
  const before = server.cpu();
  const { answered, refused, seconds } = await run(Number(values.seconds));
  const after = server.cpu();
  await server.stop();
  if (refused > answered / 100) throw new Error(`${refused} requests were refused`);
  const each = ROLES.map((role) => [role, (after[role] - before[role]) / answered] as const);
  const cpu = Object.fromEntries(each) as Record<Role, number>;
  return { cell: name, fronts, rate: answered / seconds, cpu };
}

const rows: Row[] = [];
for (let round = 0; round < Number(values.rounds); round++) {
  for (const cell of CELLS) {
    for (const fronts of values.fronts.split(',').map(Number)) {
      rows.push(await measure(cell, fronts));
      process.stderr.write(`${JSON.stringify(rows.at(-1))}\n`);
    }
  }
}

const out = [
  `${cpus()[0]!.model}, ${cpus().length} cores, Node ${process.version}, ${values.rounds} rounds, medians`,
  '',
  `| model | fronts | answers/s | CPU ms: ${ROLES.join(' | ')} | all |`,
  `|${'---|'.repeat(ROLES.length + 4)}`,
];
/** By name of cell. */
const reckoned: string[] = [];
for (const { name } of CELLS) {
  for (const fronts of values.fronts.split(',').map(Number)) {
    const mine = rows.filter((row) => row.cell === name && row.fronts === fronts);
    const cpu = ROLES.map((role) => median(mine.map((row) => row.cpu[role])));
    const all = cpu.reduce((a, b) => a + b, 0);
    const rate = median(mine.map((row) => row.rate));
    const shown = [...cpu, all].map((ms) => ms.toFixed(3));
    out.push(`| ${name} | ${fronts} | ${rate.toFixed(0)} | ${shown.join(' | ')} |`);
    if (fronts > 1) reckoned.push(reckon(name, cpu[0]!, cpu[1]!, all));
  }
}

/** What the processor time of an answer allows on a machine where no core is short. */
function reckon(name: string, frontMs: number, mainMs: number, allMs: number): string {
  const cores = Number(values.cores);
  const aim = Number(values.aim);
  const byMain = (FULL * 1000) / mainMs;
  const byCores = (FULL * cores * 1000) / allMs;
  const fronts = Math.ceil((aim * frontMs) / (FULL * 1000));
  return (
    `- ${name}: the main thread, one core at ${FULL * 100} %, decides ${FULL * 1000} / ` +
    `${mainMs.toFixed(3)} = ${byMain.toFixed(0)} answers/s; ${cores} cores at ${FULL * 100} % ` +
    `have time for ${FULL * cores * 1000} / ${allMs.toFixed(3)} = ${byCores.toFixed(0)}; ` +
    `${aim} answers/s need ${aim} x ${frontMs.toFixed(3)} / ${FULL * 1000} = ${fronts} fronts ` +
    `and ${((aim * allMs) / 1000).toFixed(1)} cores.`
  );
}
process.stdout.write(`${[...out, '', ...reckoned].join('\n')}\n`);
