/**
 * Steady load for long: does memory grow, do handles leak, does the server slow down?
 *
 *   npm run bench:soak -- [--minutes 30] [--rate N]   # rate: 80 % of what it can answer, if absent
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { load, quantile } from './load.ts';
import { openFiles, residentMb, serve, threads } from './server.ts';

export interface Soaked {
  readonly rate: number;
  readonly answered: number;
  readonly unanswered: number;
  /** MB an hour, with a 95 % interval, over the last two thirds. */
  readonly slope: { readonly mbPerHour: number; readonly interval: readonly [number, number] };
  readonly residentMb: { readonly first: number; readonly last: number };
  readonly openFiles: { readonly first: number; readonly last: number };
  readonly threads: { readonly first: number; readonly last: number };
  /** ms; first and last third. */
  readonly p50: readonly [number, number];
  readonly p99: readonly [number, number];
}

const SAMPLE_MS = 2000;
const BUDGET_MS = 200;

/** @param rate requests a second; null: 80 % of the peak, which is measured first. */
export async function soak(minutes: number, rate: number | null, port = 18_202): Promise<Soaked> {
  const server = await serve(port);
  const photo = readFileSync('models/cifar10/samples/cat.jpg');
  const image = await sharp(photo).resize(128).toBuffer();
  const shape = { port, image, budgetMs: BUDGET_MS };
  const steady = rate ?? 0.8 * (await peakOf(shape));
  // Warm: caches, pools and the JIT are not leaks.
  await load({ ...shape, rate: steady, seconds: 10 });

  const { pid } = server;
  const samples: { at: number; mb: number; files: number; threads: number }[] = [];
  const started = performance.now();
  const sampling = setInterval(() => {
    samples.push({
      at: (performance.now() - started) / 3_600_000,
      mb: residentMb(pid),
      files: openFiles(pid),
      threads: threads(pid),
    });
  }, SAMPLE_MS);
  const { latencies, byStatus } = await load({ ...shape, rate: steady, seconds: 60 * minutes });
  clearInterval(sampling);
  await server.stop();

  const thirds = (share: number) =>
    [0, 2].map((third) => {
      const [from, to] = [third * 20_000 * minutes, (third + 1) * 20_000 * minutes];
      const part = latencies.filter(({ at }) => at >= from && at < to);
      return quantile(
        part.map(({ ms }) => ms),
        share,
      );
    }) as unknown as readonly [number, number];
  const late = samples.slice(Math.floor(samples.length / 3));
  const [first, last] = [late[0]!, late.at(-1)!];
  return {
    rate: steady,
    answered: byStatus['200'] ?? 0,
    unanswered: (byStatus['none'] ?? 0) + (byStatus['unsent'] ?? 0),
    slope: slopeOf(late.map(({ at, mb }) => [at, mb])),
    residentMb: { first: first.mb, last: last.mb },
    openFiles: { first: first.files, last: last.files },
    threads: { first: first.threads, last: last.threads },
    p50: thirds(0.5),
    p99: thirds(0.99),
  };
}

async function peakOf(shape: { port: number; image: Uint8Array; budgetMs: number }) {
  let peak = 0;
  for (let rate = 100; ; rate = Math.round(rate * 1.25)) {
    const { good } = await load({ ...shape, rate, seconds: 4 });
    if (good / 4 < peak) return peak;
    peak = good / 4;
  }
}

/** Least squares. */
function slopeOf(points: readonly (readonly [number, number])[]): Soaked['slope'] {
  const mean = (of: (point: readonly [number, number]) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [meanX, meanY] = [mean(([x]) => x), mean(([, y]) => y)];
  const spread = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  const slope = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / spread;
  const errors = points.map(([x, y]) => (y - meanY - slope * (x - meanX)) ** 2);
  const variance = errors.reduce((a, b) => a + b, 0) / (points.length - 2);
  const margin = 1.96 * Math.sqrt(variance / spread);
  return { mbPerHour: slope, interval: [slope - margin, slope + margin] };
}

if (process.argv[1]?.endsWith('soak.js')) {
  const { values } = parseArgs({
    options: { minutes: { type: 'string', default: '30' }, rate: { type: 'string' } },
  });
  const rate = values.rate === undefined ? null : Number(values.rate);
  console.log(JSON.stringify(await soak(Number(values.minutes), rate), null, 2));
}
