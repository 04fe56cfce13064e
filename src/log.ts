import { writeSync } from 'node:fs';
import pino from 'pino';
import type { Logger } from 'pino';

/** As much of the log as those need who do not speak HTTP. */
export interface Log {
  info(context: object, message: string): void;
  warn(context: object, message: string): void;
  error(context: object, message: string): void;
  fatal(context: object, message: string): void;
}

/**
 * The log on standard output: one JSON object a line, or what `format` makes of it.
 *
 * Lines that cannot be written, to a full disk or a closed pipe, are lost: answers matter more.
 * (pino's own destination tries for ever before it lets the process exit.)
 *
 * @param onLost called for each lost line.
 * @param format of a line of JSON; '' leaves the line out.
 */
export function openLog(
  level: string,
  onLost: () => void,
  format: (line: string) => string = (line) => line,
): Logger {
  return pino({ level }, { write });

  function write(line: string): void {
    let rest: Uint8Array = Buffer.from(format(line));
    try {
      while (rest.length > 0) rest = rest.subarray(writeSync(1, rest));
    } catch {
      onLost();
    }
  }
}
