import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import type { IncomingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import type { Hostile } from './requests.ts';

const agent = new Agent({ keepAlive: true, maxSockets: 16 });

export interface Answered {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/**
 * Sends a request whatever it is.
 *
 * @returns the answer; null when the connection ended without one, as it may when the server has
 *   refused the request before all of it was sent.
 */
export function send(
  url: string,
  { method, path, headers, body }: Hostile,
): Promise<Answered | null> {
  const { hostname, port } = new URL(url);
  const flat = headers.flat();
  return new Promise((resolve, reject) => {
    const call = request(
      {
        agent,
        hostname,
        port,
        method,
        path,
        headers: [...flat, 'Host', 'x', 'Content-Length', String(body.length)],
      },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          resolve({ status: answer.statusCode!, headers: answer.headers, body: text });
        });
        answer.on('error', () => resolve(null));
      },
    );
    call.setTimeout(60_000, () => reject(new Error(`no answer to ${method} ${path}`)));
    call.on('error', () => resolve(null));
    call.end(body);
  });
}

/** Sends bytes, hangs up, and returns whatever came back. */
export function sendBytes(url: string, bytes: Buffer): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    socket.setTimeout(30_000, () =>
      reject(new Error(`kept open after ${bytes.toString('latin1', 0, 80)}`)),
    );
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
    socket.end(bytes);
  });
}

/** Resident memory of a process in MB (Linux). */
export function residentMb(pid: number): number {
  const [, kb] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))!;
  return Number(kb) / 1024;
}
