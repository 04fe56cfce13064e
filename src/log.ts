import { writeSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
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
const MAX_GATHERED = 16 * 1024;
/** Bytes that wait for a reader who is behind; lines beyond them are lost. */
const MAX_BEHIND = 1024 * 1024;
/** Longest that the end of a thread waits for one, ms. */
const LAST_MS = 500;
/** Bytes that a pipe never takes a part of (`man 7 pipe`). */
const PIPE_BUF = 4096;
const NEWLINE = 0x0a;

/**
 * The log on standard output: one JSON object a line, or what `format` makes of it. Lines are
 * gathered; warnings and worse leave at once, with all before them. A pipe whose reader is behind
 * takes a part; the rest waits, and nothing else for it.
 *
 * `flush` writes them at once. So does the end of a thread, unless it is terminated.
 *
 * Lines that cannot be written, to a full disk, a closed pipe or one whose reader is too far behind,
 * are lost: answers matter more. (pino's own destination tries for ever before it lets the process
 * exit.)
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
  /** What the reader has not taken yet; the first may begin within a line. */
  const behind: Uint8Array[] = [];
  let timer: NodeJS.Timeout | null = null;
  // pino tells it the level of each line.
  const stream = { [pino.symbols.needsMetadataGsym]: true, lastLevel: 0, write, flush };
  process.on('exit', flushLast);
  return pino({ level }, stream);

  function write(line: string): void {
    gathered += format(line);
    if (stream.lastLevel >= pino.levels.values['warn']! || gathered.length > MAX_GATHERED) flush();
    else if (gathered !== '') later();
  }

  function later(): void {
    timer ??= setTimeout(flush, GATHER_MS).unref();
  }

  function flush(): void {
    if (timer) clearTimeout(timer);
    timer = null;
    const lines = piecesOf(Buffer.from(gathered));
    gathered = '';
    if (bytesIn(behind) + bytesIn(lines) > MAX_BEHIND) onLost(linesIn(lines));
    else behind.push(...lines);
    let written = 0;
    try {
      for (; written < behind.length; written++) {
        let piece = behind[written]!;
        while (piece.length > 0) behind[written] = piece = piece.subarray(writeSync(1, piece));
      }
    } catch (error) {
      // Node opens pipes so that no write waits.
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') later();
      else onLost(linesIn(behind.splice(written)));
    }
    behind.splice(0, written);
  }

  function flushLast(): void {
    const until = performance.now() + LAST_MS;
    flush();
    while (behind.length > 0 && performance.now() < until) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, GATHER_MS);
      flush();
    }
  }
}

/** Whole lines, of which a pipe takes all or nothing: other threads write to it, too. */
function piecesOf(lines: Buffer): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let start = 0, end; start < lines.length; start = end) {
    end = lines.lastIndexOf(NEWLINE, start + PIPE_BUF - 1) + 1;
    if (end <= start) end = lines.indexOf(NEWLINE, start) + 1 || lines.length;
    pieces.push(lines.subarray(start, end));
  }
  return pieces;
}

const bytesIn = (texts: readonly Uint8Array[]): number =>
  texts.reduce((bytes, { length }) => bytes + length, 0);

const linesIn = (texts: readonly Uint8Array[]): number =>
  texts.reduce((lines, text) => lines + text.filter((byte) => byte === NEWLINE).length, 0);
