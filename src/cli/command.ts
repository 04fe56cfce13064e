import { readFile } from 'node:fs/promises';

export const EXIT = { done: 0, failed: 1, usage: 2, late: 3 } as const;

/** The command line makes no sense; the message says why. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The command cannot be carried out; the message says why, and what to do. */
export class CliError extends Error {
  override readonly name = 'CliError';
}

/** Progress for people: on a terminal only, and never in what a program reads. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`);
}

export async function packageVersion(): Promise<string> {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(await readFile(file, 'utf8')) as { version: string }).version;
}
