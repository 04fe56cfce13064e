import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { listenOptions } from '../http/listening.ts';
import { CliError } from './command.ts';

/**
 * @param flag that sets the port.
 * @returns the port.
 * @throws {CliError} where it cannot be had.
 */
export async function listen(
  app: FastifyInstance,
  host: string,
  port: number,
  flag: string,
): Promise<number> {
  await explained(host, port, flag, app.listen(listenOptions(host, port)));
  return (app.server.address() as AddressInfo).port;
}

/**
 * A port that nobody listens on. Threads that share it could not tell: they would share it with
 * another server of the same user, too.
 *
 * @param port 0: any.
 * @throws {CliError} where it cannot be had.
 */
export async function freePort(host: string, port: number, flag: string): Promise<number> {
  const server = createServer().listen(listenOptions(host, port));
  await explained(host, port, flag, once(server, 'listening'));
  const { port: free } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return free;
}

async function explained(
  host: string,
  port: number,
  flag: string,
  listening: Promise<unknown>,
): Promise<void> {
  try {
    await listening;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const unknown = `no machine is called ${host}: choose another with --host`;
    const hint = {
      EADDRINUSE: `port ${port} is in use: stop what listens there, or choose another with --${flag}`,
      EACCES: `port ${port} is not allowed: choose one above 1023 with --${flag}`,
      ENOTFOUND: unknown,
      EAI_AGAIN: unknown,
      EADDRNOTAVAIL: `this machine has no address ${host}: choose another with --host`,
    }[code ?? ''];
    throw hint === undefined ? error : new CliError(hint, { cause: error });
  }
}
