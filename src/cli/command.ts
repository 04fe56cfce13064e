import { parseArgs } from 'node:util';
import type { ParseArgsConfig } from 'node:util';

export const EXIT = { done: 0, failed: 1, usage: 2, late: 3 } as const;

/** One command of `depthserve`. */
export interface Command {
  /** Null: the command prints its own. */
  readonly help: string | null;
  /** @returns the exit code. */
  run(args: readonly string[]): Promise<number>;
}

/** The command line makes no sense; the message says why. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** @throws {UsageError} for options that are not known. */
export function parsed<Config extends NonNullable<ParseArgsConfig['options']>>(
  args: readonly string[],
  options: Config,
) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

/** @throws {UsageError} unless `text` is a number from `from` to `to`. */
export function numberOf(option: string, text: string, from: number, to: number): number {
  const value = Number(text);
  if (text.trim() !== '' && value >= from && value <= to) return value;
  throw new UsageError(`--${option} is "${text}", not a number from ${from} to ${to}`);
}

/** Progress for people: on a terminal only, and never in what a program reads. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`);
}
