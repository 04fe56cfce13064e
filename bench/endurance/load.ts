/** An open-loop client: requests leave when they are due, whatever became of those before. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

export interface LoadOptions {
  readonly port: number;
  readonly image: Uint8Array;
  readonly budgetMs: number;
  /** Requests a second, evenly spaced. */
  readonly rate: number;
  readonly seconds: number;
  /** Connections at most; what finds none counts as unsent. */
  readonly connections?: number;
}

export interface LoadResult {
  /** Requests that were due. */
  offered: number;
  /** Answers by status; `none`: the connection ended without one; `unsent`: no connection left. */
  readonly byStatus: Record<string, number>;
  /** Answered with 200 within the budget, counted from when the request was due. */
  good: number;
  /** Answered with 200 of which the server says that the budget was met. */
  met: number;
  /** ms from when the request was due to its answer, of those answered with 200. */
  readonly latencies: { readonly at: number; readonly ms: number }[];
}

const TICK_MS = 2;

/** Sends for `seconds` and waits for the last answers. */
export async function load(options: LoadOptions): Promise<LoadResult> {
  const { rate, seconds, budgetMs, image, connections = 1000 } = options;
  const head =
    'POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n' +
    `X-Latency-Budget-Ms: ${budgetMs}\r\nContent-Length: ${image.length}\r\n\r\n`;
  const bytes = Buffer.concat([Buffer.from(head), image]);
  const result: LoadResult = { offered: 0, byStatus: {}, good: 0, met: 0, latencies: [] };
  const free: Connection[] = [];
  let open = 0;
  const underWay = new Set<Connection>();

  const count = (status: string) => {
    result.byStatus[status] = (result.byStatus[status] ?? 0) + 1;
  };
  const send = (due: number) => {
    result.offered++;
    let connection = free.pop();
    while (connection?.closed) connection = free.pop();
    if (!connection) {
      if (open >= connections) return count('unsent');
      open++;
      connection = new Connection(options.port, () => open--);
    }
    const used = connection;
    underWay.add(used);
    used.ask(bytes, (status, body) => {
      underWay.delete(used);
      count(status === 0 ? 'none' : String(status));
      if (!used.closed) free.push(used);
      if (status !== 200) return;
      const ms = performance.now() - due;
      result.latencies.push({ at: due - started, ms });
      if (ms <= budgetMs) result.good++;
      if (body.includes('"met":true')) result.met++;
    });
  };

  const started = performance.now();
  const total = Math.round(rate * seconds);
  for (let sent = 0; sent < total;) {
    const now = performance.now();
    for (; sent < total && started + (sent * 1000) / rate <= now; sent++) {
      send(started + (sent * 1000) / rate);
    }
    await sleep(TICK_MS);
  }
  const giveUp = performance.now() + 10_000;
  while (underWay.size > 0 && performance.now() < giveUp) await sleep(TICK_MS);
  for (const connection of free) connection.close();
  return result;
}

/** One connection that is kept alive; one request at a time. */
class Connection {
  closed = false;
  readonly #socket: Socket;
  #received = '';
  #answered: ((status: number, body: string) => void) | null = null;

  constructor(port: number, onClosed: () => void) {
    this.#socket = connect(port, '127.0.0.1').setNoDelay();
    this.#socket.on('data', (chunk: Buffer) => this.#read(chunk));
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => {
      this.closed = true;
      onClosed();
      this.#settle(0, '');
    });
  }

  ask(bytes: Buffer, answered: (status: number, body: string) => void): void {
    this.#received = '';
    this.#answered = answered;
    this.#socket.write(bytes);
  }

  close(): void {
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    this.#received += chunk.toString('latin1');
    const end = this.#received.indexOf('\r\n\r\n');
    if (end < 0) return;
    const length = Number(/content-length: (\d+)/i.exec(this.#received.slice(0, end))?.[1] ?? 0);
    if (this.#received.length < end + 4 + length) return;
    if (/\r\nconnection: close/i.test(this.#received.slice(0, end))) this.closed = true;
    this.#settle(Number(this.#received.slice(9, 12)), this.#received.slice(end + 4));
  }

  #settle(status: number, body: string): void {
    const answered = this.#answered;
    this.#answered = null;
    answered?.(status, body);
  }
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}
