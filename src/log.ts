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

/** Longest that a line waits for others, ms: a system call for each costs more than the line. */
const GATHER_MS = 10;
/** Characters that are not kept back any longer. */
const MOST = 16 * 1024;
const NEWLINE = 0x0a;

/**
 * The log on standard output: one JSON object a line, or what `format` makes of it. Lines are
 * gathered; warnings and worse leave at once, with all before them.
 *
 * `flush` writes them at once. So does the end of a thread, unless it is terminated.
 *
 * Lines that cannot be written, to a full disk or a closed pipe, are lost: answers matter more.
 * (pino's own destination tries for ever before it lets the process exit.)
 *
 * @param onLost called with the number of lines lost.
 * @param format of a line of JSON; '' leaves the line out.
 */
export function openLog(
  level: string,
  onLost: (lines: number) => void,
  format: (line: string) => string = (line) => line,
): Logger {
  let gathered = '';
  // pino tells it the level of each line.
  const stream = { [pino.symbols.needsMetadataGsym]: true, lastLevel: 0, write, flush };
  process.on('exit', flush);
  return pino({ level }, stream);

  function write(line: string): void {
    const isFirst = gathered === '';
    gathered += format(line);
    if (stream.lastLevel >= pino.levels.values['warn']! || gathered.length > MOST) flush();
    else if (isFirst && gathered !== '') setTimeout(flush, GATHER_MS).unref();
  }

  function flush(): void {
    let rest: Uint8Array = Buffer.from(gathered);
    gathered = '';
    try {
      while (rest.length > 0) rest = rest.subarray(writeSync(1, rest));
    } catch {
      onLost(rest.reduce((lines, byte) => lines + (byte === NEWLINE ? 1 : 0), 0));
    }
  }
}
