/**
 * Versions or settings of the server in turn, on core 0, under one open-loop load from core 1: right
 * answers in time, and what an answer or a refusal takes of the processor, by thread role.
 *
 *   npm run bench:turns -- --rate 242 --server ../before --server .
 *   npm run bench:turns -- --rate 242 --server . --server .,GLIBC_TUNABLES= --server .,--no-opt
 *
 * A server is the folder of a built checkout, and, after commas, settings and flags of Node. The
 * generator and photos are those of bench/peers, see its README.
 */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { MeasuredServer } from './cost/server.ts';
import type { CpuMs, Role } from './cost/server.ts';
import { median } from './median.ts';
import { send } from './peers/cell.ts';
import type { Report } from './peers/cell.ts';

const { values } = parseArgs({
  options: {
    server: { type: 'string', multiple: true, default: ['.'] },
    model: { type: 'string', default: 'models/grocery' },
    photos: { type: 'string', default: 'runs/peers/grocery/test' },
    /** Requests/s. */
    rate: { type: 'string', default: '100' },
    'budget-ms': { type: 'string', default: '100' },
    rounds: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '4' },
    /** s of the same load before the first round. */
    warm: { type: 'string', default: '20' },
  },
});
const PORT = 18_090;
const ROLES: readonly Role[] = ['front', 'decode', 'engine', 'libuv and others'];

const manifest = readFileSync(join(values.model, 'model.json'), 'utf8');
const { labels } = JSON.parse(manifest) as { labels: string[] };
const load = {
  photos: values.photos,
  labels,
  cores: '1',
  budgetMs: Number(values['budget-ms']),
  priority: 0,
};

interface Turn extends Report {
  /** Processor ms, by role. */
  readonly cpu: CpuMs;
}

async function start(text: string, index: number): Promise<MeasuredServer> {
  const [checkout, ...settings] = text.split(',');
  const isFlag = (setting: string) => setting.startsWith('-');
  const server = await MeasuredServer.start({
    checkout: checkout!,
    model: values.model,
    cores: '0',
    flags: settings.filter(isFlag),
    env: Object.fromEntries(
      settings.filter((each) => !isFlag(each)).map((each) => each.split(/=(.*)/s).slice(0, 2)),
    ) as Record<string, string>,
    port: PORT + index,
  });
  server.pause();
  return server;
}

async function takeTurn(server: MeasuredServer, seconds: number, seed: number): Promise<Turn> {
  server.resume();
  const before = server.cpu();
  const target = { url: `${server.url}/classify`, peer: { format: 'raw' } } as const;
  const report = await send(target, Number(values.rate), seed, { ...load, seconds });
  const after = server.cpu();
  server.pause();
  const each = ROLES.map((role) => [role, after[role] - before[role]] as const);
  return { ...report, cpu: Object.fromEntries(each) as CpuMs };
}

/** Per answer, where none was answered, is nothing. */
const shown = (value: number, digits: number) =>
  Number.isFinite(value) && value >= 0 ? value.toFixed(digits) : '';

const servers: MeasuredServer[] = [];
for (const [index, text] of values.server.entries()) servers.push(await start(text, index));
for (const server of servers) await takeTurn(server, Number(values.warm), 0);
const turns: Turn[][] = servers.map(() => []);
for (let round = 1; round <= Number(values.rounds); round++) {
  for (const [index, server] of servers.entries()) {
    turns[index]!.push(await takeTurn(server, Number(values.seconds), round));
  }
}
for (const server of servers) await server.stop();

const out = [
  `${cpus()[0]!.model}, Node ${process.version}, ${values.rate} requests/s with ${values['budget-ms']} ms ` +
    `each, ${values.rounds} rounds of ${values.seconds} s after ${values.warm} s, medians`,
  '',
  '| server | right in time/s | late/s | refused/s | p50 ms | CPU ms an answer: front | decode ' +
    '| engine | others | all | CPU ms a request |',
  `|${'---|'.repeat(11)}`,
];
for (const [index, name] of values.server.entries()) {
  const of = (read: (turn: Turn) => number, digits: number) =>
    shown(median(turns[index]!.map(read)), digits);
  const perSecond = (read: (turn: Turn) => number) =>
    of((turn) => read(turn) / Number(values.seconds), 0);
  const answered = ({ right, wrong, late }: Turn) => right + wrong + late;
  const all = ({ cpu }: Turn) => ROLES.reduce((sum, role) => sum + cpu[role], 0);
  const cells = [
    of(({ goodput }) => goodput, 0),
    perSecond(({ late }) => late),
    perSecond(({ refused }) => refused),
    of(({ latencyMs }) => latencyMs[0], 0),
    ...ROLES.map((role) => of((turn) => turn.cpu[role] / answered(turn), 2)),
    of((turn) => all(turn) / answered(turn), 2),
    of((turn) => all(turn) / turn.requests, 3),
  ];
  out.push(`| ${name} | ${cells.join(' | ')} |`);
}
process.stdout.write(`${out.join('\n')}\n`);
