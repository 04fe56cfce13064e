import { readdirSync, readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer } from '../../src/http/schemas.ts';
import type { Random } from '../simulator/random.ts';

export interface Photo {
  readonly label: string;
  readonly file: Buffer;
}

/** What became of one request. Times in ms. */
export interface Reply {
  /** From the start of the run. */
  readonly intendedAt: number;
  /** The caller's, from the intended moment on. */
  readonly budget: number;
  /** How much later than intended it was sent. */
  readonly lateness: number;
  /** From the intended moment to the whole reply. */
  readonly latency: number;
  /** 0: no reply. */
  readonly status: number;
  /** Error code of a problem document. */
  readonly code: string | null;
  readonly answer: Answer | null;
  /** The first prediction is the photo's label. */
  readonly correct: boolean;
}

/** Photos in folders named by their label. */
export function readPhotos(folder: string): Photo[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name: label }) =>
      readdirSync(`${folder}/${label}`).map((file) => ({
        label,
        file: readFileSync(`${folder}/${label}/${file}`),
      })),
    );
}

/**
 * Sends a request at each of `times` (ms), whether or not earlier ones were answered. What the
 * generator is late by comes off the budget that the server is given, as it would of a caller's.
 */
export async function openLoop(
  url: string,
  times: readonly number[],
  photos: readonly Photo[],
  budgets: readonly number[],
  random: Random,
): Promise<Reply[]> {
  const send = client(url);
  const pending: Promise<Reply>[] = [];
  const started = performance.now() + 100;
  for (const intendedAt of times) {
    const wait = started + intendedAt - performance.now();
    if (wait > 0) await sleep(wait);
    const photo = random.pick(photos);
    const budget = random.pick(budgets);
    const lateness = Math.max(0, performance.now() - started - intendedAt);
    pending.push(
      send(photo.file, Math.max(0.1, budget - lateness)).then(({ status, body }) => {
        const json = status === 0 ? null : (JSON.parse(body) as Answer & { code?: string });
        const answer = status === 200 ? json : null;
        return {
          intendedAt,
          budget,
          lateness,
          latency: performance.now() - started - intendedAt,
          status,
          code: json?.code ?? null,
          answer,
          correct: answer?.predictions[0]?.label === photo.label,
        };
      }),
    );
  }
  return Promise.all(pending);
}

/** Answers/s with so many requests always under way and time enough for the deepest. */
export async function closedLoop(
  url: string,
  photos: readonly Photo[],
  connections: number,
  seconds: number,
): Promise<number> {
  const send = client(url);
  let next = 0;
  let answers = 0;
  const countFrom = performance.now() + 1000;
  const stopAt = countFrom + seconds * 1000;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (performance.now() < stopAt) {
        const { status } = await send(photos[next++ % photos.length]!.file, 60_000);
        const now = performance.now();
        if (status === 200 && now >= countFrom && now < stopAt) answers++;
      }
    }),
  );
  return answers / seconds;
}

/** Posts photos over connections that stay open. Status 0: the connection failed. */
function client(url: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: Infinity });
  return (file: Buffer, budgetMs: number) =>
    new Promise<{ status: number; body: string }>((resolve) => {
      const headers = {
        'content-type': 'image/jpeg',
        'content-length': file.length,
        'x-latency-budget-ms': budgetMs.toFixed(3),
      };
      const post = request(`${url}/classify`, { method: 'POST', agent, headers }, (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (body += chunk));
        response.on('end', () => resolve({ status: response.statusCode!, body }));
        response.on('error', () => resolve({ status: 0, body: '' }));
      });
      post.on('error', () => resolve({ status: 0, body: '' }));
      post.end(file);
    });
}
