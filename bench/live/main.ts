/**
 * Open-loop load on a live server, from labelled photos, and what the simulator makes of the same
 * arrivals. Photos: bench/live/photos.py.
 *
 *   npm run bench:live -- --photos runs/live-photos --json FILE [--url URL] [--only NAME,...]
 *     --budgets 4,6,10,25   in multiples of the base-net's service time, which is measured first
 *     --capacity N   answers/s that the loads are multiples of; measured before each run, if absent
 *   npm run bench:live -- --photos runs/live-photos --rate 200 --cv2 4 --seconds 20 [--url URL]
 *   npm run bench:live -- --photos runs/live-photos --trace FILE --scale 50 [--url URL]
 *
 * Without a rate or a trace: all scenarios below, at multiples of the capacity at that moment. Without a URL: against a server that it starts, with the settings in the environment.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { LatencyTable } from '../../src/scheduler/latency.ts';
import { depthserve } from '../../src/scheduler/depthserve/depthserve.ts';
import { median } from '../median.ts';
import { constant, parseTrace, renewal } from '../simulator/arrivals.ts';
import type { Request } from '../simulator/arrivals.ts';
import { summarise } from '../simulator/summary.ts';
import { Random } from '../simulator/random.ts';
import { simulate } from '../simulator/run.ts';
import { parseProfile } from '../simulator/tables.ts';
import type { Profile } from '../simulator/tables.ts';
import { closedLoop, openLoop, readPhotos } from './load.ts';
import type { Photo, Reply } from './load.ts';
import { countersOf, machineOf } from './machine.ts';
import { figures } from './report.ts';
import { startServer } from './server.ts';

interface Scenario {
  readonly name: string;
  /** Multiple of the measured capacity. */
  readonly load: number;
  readonly cv2: number;
}

const SCENARIOS: readonly Scenario[] = [
  { name: 'poisson-0.5', load: 0.5, cv2: 1 },
  { name: 'poisson-0.8', load: 0.8, cv2: 1 },
  { name: 'bursts-0.5', load: 0.5, cv2: 8 },
  { name: 'bursts-0.8', load: 0.8, cv2: 8 },
  { name: 'poisson-1', load: 1, cv2: 1 },
  { name: 'overload-1.5', load: 1.5, cv2: 1 },
  { name: 'overload-2', load: 2, cv2: 1 },
];
/** Requests always under way while the capacity is measured. */
const CONNECTIONS = 64;
const CAPACITY_SECONDS = 3;
/** Photos sent one by one, to see how long one takes alone. */
const ALONE = 100;
const ALONE_EVERY_MS = 40;
/** How often the server is asked for its state during a run. */
const STATE_EVERY_MS = 500;

async function main(): Promise<void> {
  const string = { type: 'string' } as const;
  const { values } = parseArgs({
    options: {
      url: string,
      photos: string,
      budgets: { type: 'string', default: '4,6,10,25' },
      seconds: { type: 'string', default: '15' },
      seed: { type: 'string', default: '1' },
      only: string,
      rate: string,
      cv2: { type: 'string', default: '1' },
      trace: string,
      scale: { type: 'string', default: '1' },
      capacity: string,
      json: string,
    },
  });
  if (values.photos === undefined) throw new Error('--photos FOLDER is needed: see photos.py');
  const photos = readPhotos(values.photos);
  const multiples = values.budgets.split(',').map(Number);
  const seconds = Number(values.seconds);
  const seed = Number(values.seed);

  const own = values.url === undefined ? await startServer() : null;
  const url = own?.url ?? values.url!;
  await closedLoop(url, photos, 4, 2);
  const idle = await alone(url, photos, seed);
  const budgets = multiples.map((multiple) => multiple * idle.serviceMs);
  console.log(
    `base-net's service time ${idle.serviceMs.toFixed(1)} ms; ` +
      `budgets ${budgets.map((ms) => ms.toFixed(0)).join(', ')} ms`,
  );
  const runs: object[] = [];
  /** Answers/s with time enough for the deepest, just before the run. */
  let capacity: number | null = null;
  const live = async (name: string, times: readonly number[]) => {
    const run = await play(url, times, photos, budgets, seed, idle);
    runs.push({ name, capacity, ...run });
    const { attainment, accuracy, goodput, predictionError } = run.live;
    console.log(
      [
        name.padEnd(14),
        `${run.rate.toFixed(0)}/s of ${capacity?.toFixed(0) ?? '?'}`,
        `in time: server ${percent(attainment.server)}, client ${percent(attainment.client)}`,
        `simulated ${percent(run.simulated.attainment)}`,
        `accuracy ${percent(accuracy.labelled)} labelled, ${percent(accuracy.expected)} expected`,
        `simulated ${percent(run.simulated.accuracy)}`,
        `goodput ${goodput.toFixed(0)}/s`,
        `prediction off by ${percent(predictionError)} (p95)`,
      ].join('; '),
    );
    await sleep(1000);
  };

  try {
    if (values.trace !== undefined) {
      const times = parseTrace(readFileSync(values.trace, 'utf8'), Number(values.scale));
      await live(
        'trace',
        times.filter((time) => time <= seconds * 1000),
      );
    } else if (values.rate !== undefined) {
      const rate = constant(Number(values.rate));
      await live('rate', renewal(rate, Number(values.cv2), seconds * 1000, new Random(seed)));
    } else {
      const wanted = values.only?.split(',') ?? SCENARIOS.map(({ name }) => name);
      for (const { name, load, cv2 } of SCENARIOS.filter((one) => wanted.includes(one.name))) {
        capacity =
          values.capacity === undefined
            ? await closedLoop(url, photos, CONNECTIONS, CAPACITY_SECONDS)
            : Number(values.capacity);
        const rate = constant(load * capacity);
        await live(name, renewal(rate, cv2, seconds * 1000, new Random(seed)));
      }
    }
  } finally {
    await own?.stop();
  }
  if (values.json !== undefined) {
    const machine = `${cpus()[0]!.model}, ${availableParallelism()} cores, Node ${process.version}`;
    const conditions = {
      machine,
      generator: 'on the same cores as the server, in a process of its own',
      photos: photos.length,
      serviceMs: idle.serviceMs,
      budgetsMs: budgets,
      seconds,
      seed,
    };
    writeFileSync(values.json, `${JSON.stringify({ conditions, runs }, null, 1)}\n`);
  }
}

/** What the server shows when nothing else is under way. */
interface Idle {
  /** Ms that the base-net takes for one photo, from the head to the answer. */
  readonly serviceMs: number;
  /** Ms of decoding, photo by photo, ascending. */
  readonly decodeMs: readonly number[];
}

async function alone(url: string, photos: readonly Photo[], seed: number): Promise<Idle> {
  const times = Array.from({ length: ALONE }, (_, index) => index * ALONE_EVERY_MS);
  const replies = await openLoop(url, times, photos, [10_000], new Random(seed));
  const { profile } = await modelOf(url);
  const timings = replies.flatMap(({ answer }) => (answer ? [answer.timing] : []));
  const around = timings.map(({ totalMs, inferenceMs }) => totalMs - inferenceMs);
  const decodeMs = timings.map((timing) => timing.decodeMs).sort((a, b) => a - b);
  return { serviceMs: median(around) + profile.latency[profile.tiers[0]!.skip]![1]!, decodeMs };
}

/** One run, live and simulated with what the server says of itself meanwhile. */
async function play(
  url: string,
  times: readonly number[],
  photos: readonly Photo[],
  budgets: readonly number[],
  seed: number,
  idle: Idle,
) {
  const { profile: started } = await modelOf(url);
  const states: State[] = [];
  const sampling = setInterval(() => {
    void modelOf(url).then(({ state }) => states.push(state));
  }, STATE_EVERY_MS);
  const before = await countersOf(url);
  const replies = await openLoop(url, times, photos, budgets, new Random(seed, 1));
  const after = await countersOf(url);
  clearInterval(sampling);
  const seconds = times.at(-1)! / 1000;

  const typical = (of: Exclude<keyof State, 'latencyNow'>) =>
    median(states.map((state) => state[of]));
  const [slowdown, spread] = [typical('slowdown'), typical('spread')];
  const profile = { ...started, latency: typicalTable(states.map(({ latencyNow }) => latencyNow)) };
  const decodeMs = median(idle.decodeMs);
  const answers = replies.filter(({ answer }) => answer !== null).length;
  const counts = { requests: replies.length, answers };
  const machine = machineOf([before, after], profile, decodeMs, counts);
  // Of a log-normal distribution, the 95th percentile is exp(1.645 sigma) times the median.
  const jitter = Math.log(spread) / 1.645;
  const outcomes = await simulate({
    profile,
    policy: depthserve,
    requests: asSimulated(replies, idle, new Random(seed, 2)),
    seed,
    engines: profile.engineWorkers,
    replicas: 1,
    balancing: 'round-robin',
    slowdowns: [],
    jitter,
    machine,
    decoders: typical('decoders'),
  });
  const { attainment, accuracy, p50, p99, tierMix } = summarise(outcomes);
  return {
    rate: times.length / seconds,
    live: figures(replies, seconds),
    simulated: { attainment, accuracy, p50, p99, tierMix, slowdown, jitter, machine },
  };
}

/** The same requests as they were sent, each of which takes as long to decode as one alone. */
function asSimulated(replies: readonly Reply[], idle: Idle, random: Random): Request[] {
  return replies
    .map(({ intendedAt, lateness, budget }) => ({
      arrivedAt: intendedAt + lateness,
      budget: Math.max(0.1, budget - lateness),
      minAccuracy: 0,
      decodeMs: random.pick(idle.decodeMs),
    }))
    .sort((a, b) => a.arrivedAt - b.arrivedAt);
}

function typicalTable(tables: readonly LatencyTable[]): LatencyTable {
  const entries = Object.entries(tables[0]!).map(([skip, row]) => [
    skip,
    Object.fromEntries(
      Object.keys(row).map((size) => [
        size,
        median(tables.map((table) => table[skip]![Number(size)]!)),
      ]),
    ),
  ]);
  return Object.fromEntries(entries) as LatencyTable;
}

/** What `GET /model` says of the present. */
interface State {
  readonly latencyNow: LatencyTable;
  readonly slowdown: number;
  readonly spread: number;
  readonly decoders: number;
}

async function modelOf(url: string): Promise<{ profile: Profile; state: State }> {
  const text = await (await fetch(`${url}/model`)).text();
  return { profile: parseProfile(text, 'live'), state: JSON.parse(text) as State };
}

const percent = (share: number) => `${(100 * share).toFixed(2)} %`;

await main();
