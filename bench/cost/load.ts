import { connect } from 'node:net';
import type { Socket } from 'node:net';

/** What came of a load. Times in ms. */
export interface Loaded {
  readonly answered: number;
  readonly refused: number;
  readonly seconds: number;
  readonly latencies: readonly number[];
}

/**
 * The dumbest client that keeps up: one prepared request on a few connections, so that the load
 * costs little next to the server.
 *
 * @param perSecond requests/s, evenly spaced; 0: as many as come back.
 */
export async function load(
  url: string,
  image: Buffer,
  budgetMs: number,
  { connections = 32, perSecond = 0, seconds = 4 },
): Promise<Loaded> {
  const { hostname, port } = new URL(url);
  const head =
    `POST /classify HTTP/1.1\r\nHost: bench\r\nContent-Type: image/jpeg\r\n` +
    `X-Latency-Budget-Ms: ${budgetMs}\r\nContent-Length: ${image.length}\r\n\r\n`;
  const request = Buffer.concat([Buffer.from(head), image]);
  const latencies: number[] = [];
  let answered = 0;
  let refused = 0;
  const began = performance.now();
  const end = began + 1000 * seconds;
  const ask = perSecond > 0 ? paced(perSecond, began) : () => 0;

  await Promise.all(
    Array.from({ length: connections }, async () => {
      const socket = connect(Number(port), hostname);
      socket.setNoDelay(true);
      await new Promise((resolve) => socket.once('connect', resolve));
      for (;;) {
        const waitMs = ask();
        if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
        if (performance.now() >= end) break;
        const sent = performance.now();
        socket.write(request);
        const status = await answer(socket);
        if (status === 200) answered++;
        else refused++;
        latencies.push(performance.now() - sent);
      }
      socket.destroy();
    }),
  );
  return { answered, refused, seconds: (performance.now() - began) / 1000, latencies };
}

/** Ms until the next request of all connections is due. */
function paced(perSecond: number, began: number): () => number {
  let next = began;
  return () => {
    next += 1000 / perSecond;
    return next - performance.now();
  };
}

/** @returns the status of the one answer that is under way. */
function answer(socket: Socket): Promise<number> {
  return new Promise((resolve, reject) => {
    let text = '';
    const read = (chunk: Buffer) => {
      text += chunk.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      if (end < 0) return;
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
      if (text.length < end + 4 + length) return;
      socket.off('data', read);
      socket.off('error', reject);
      resolve(Number(text.slice(9, 12)));
    };
    socket.on('data', read);
    socket.once('error', reject);
  });
}
