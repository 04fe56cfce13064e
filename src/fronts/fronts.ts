import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { SharedCounter } from '../http/shared-counter.ts';
import { alone } from '../http/threads.ts';
import type { Threads } from '../http/threads.ts';
import { FrontRequests } from './front-requests.ts';
import type { MainParts } from './front-requests.ts';
import { Outbox, clockOrigin } from './messages.ts';
import type { FromFront, FrontOptions, ToFront } from './messages.ts';

/** What all fronts are started with. */
export type FrontsOptions = Pick<
  FrontOptions,
  'config' | 'version' | 'port' | 'text' | 'bytes' | 'connections'
>;

/** One that is lost again and again must not take a core. */
const PAUSE_MS = 100;

/** Counts that the main thread, whose place is the first, and `fronts` others keep together. */
export function sharedCounts(fronts: number) {
  const shared = () => new BigInt64Array(new SharedArrayBuffer(8 * (fronts + 1)));
  return { bytes: shared(), connections: shared() };
}

/** How the HTTP server of the main thread sees them. */
export const seenFromMain = (counts: ReturnType<typeof sharedCounts>): Threads => ({
  ...alone(),
  bytes: new SharedCounter(counts.bytes, 0),
  connections: new SharedCounter(counts.connections, 0),
});

/** Threads that speak HTTP for a service that is on this one. One that is lost is replaced. */
export class Fronts {
  readonly #outboxes: Outbox<ToFront>[] = [];
  readonly #ended: Promise<void>[] = [];
  #isClosing = false;

  private constructor(
    private readonly options: FrontsOptions,
    private readonly parts: MainParts,
    private readonly count: number,
  ) {}

  /**
   * @returns when all of them listen.
   * @throws {Error} when one cannot.
   */
  static async start(options: FrontsOptions, parts: MainParts, count: number): Promise<Fronts> {
    const fronts = new Fronts(options, parts, count);
    await Promise.all(Array.from({ length: count }, (_, index) => fronts.#start(index)));
    return fronts;
  }

  /** Answers what has come in, then ends the threads. */
  async close(): Promise<void> {
    this.#isClosing = true;
    for (const outbox of this.#outboxes) outbox.post({ type: 'drain' });
    await Promise.all(this.#ended);
  }

  /** @returns when it listens. */
  #start(index: number): Promise<void> {
    const { bytes, connections } = this.options;
    const place = index + 1;
    const sharesPort = this.count > 1;
    const workerData = { ...this.options, sharesPort, origin: clockOrigin(), place };
    const thread = new Worker(new URL('./front-thread.js', import.meta.url), {
      workerData: workerData satisfies FrontOptions,
    });
    const outbox = new Outbox<ToFront>(thread);
    const requests = new FrontRequests(this.parts, outbox);
    this.#outboxes[index] = outbox;
    return new Promise((resolve, reject) => {
      let listens = false;
      let reason = new Error('a front ended');
      thread.on('message', (messages: readonly FromFront[]) => {
        for (const message of messages) {
          if (message.type === 'listening') {
            listens = true;
            resolve();
          } else requests.receive(message);
        }
      });
      thread.on('error', (error) => {
        reason = error;
      });
      const lost = () => {
        requests.lost();
        new SharedCounter(bytes, place).clear();
        new SharedCounter(connections, place).clear();
        reject(reason);
        if (!this.#isClosing && listens) void this.#replace(index, reason);
      };
      this.#ended[index] = new Promise((end) => {
        thread.once('exit', () => {
          lost();
          end();
        });
      });
    });
  }

  async #replace(index: number, err: Error): Promise<void> {
    this.parts.service.metrics.frontsLost.inc();
    this.parts.log.error({ err }, 'a front was lost, and is replaced');
    await sleep(PAUSE_MS);
    if (this.#isClosing) return;
    await this.#start(index).catch((error: Error) => this.#replace(index, error));
  }
}
