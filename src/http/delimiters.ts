import { Transform } from 'node:stream';
import type { TransformCallback } from 'node:stream';

const CRLF = '\r\n';
/** Longest padding that is taken for one. */
const LONGEST_PADDING = 256;

/**
 * The lines between the parts of a form, on their way to the parser: without the spaces and tabs
 * that may follow a boundary (RFC 2046, 5.1.1), which @fastify/busboy does not know, and counted,
 * because it passes over parts whose head it does not understand.
 */
export class Delimiters extends Transform {
  readonly #delimiter: Buffer;
  /** A delimiter may begin the body as if a line had ended before. */
  #tail: Buffer = Buffer.from(CRLF);
  #unsent = CRLF.length;
  #isClosed = false;
  #parts = 0;

  /** @param boundary as the header has it, without quotes. */
  constructor(private readonly boundary: string) {
    super();
    this.#delimiter = Buffer.from(`${CRLF}--${boundary}`, 'latin1');
  }

  /** Parts that have begun until now. */
  get parts(): number {
    return this.#parts;
  }

  /** Which line a body that has ended lacks; null: none, or it has not ended. */
  get missing(): string | null {
    if (this.#isClosed || !this.writableEnded) return null;
    const line = `--${this.boundary.slice(0, 70)}`;
    return this.#parts === 0
      ? `The body has no line ${line}, with the boundary that Content-Type names.`
      : `The body does not end with a line ${line}-- (lines end with CR LF).`;
  }

  override _transform(chunk: Buffer, _encoding: string, done: TransformCallback): void {
    const data = this.#tail.length > 0 ? Buffer.concat([this.#tail, chunk]) : chunk;
    const rest = this.#isClosed ? 0 : this.#scan(data);
    this.#tail = this.#isClosed ? Buffer.alloc(0) : data.subarray(rest);
    if (this.#isClosed) this.#send(data.subarray(rest));
    done();
  }

  override _flush(done: TransformCallback): void {
    this.#send(this.#tail);
    done();
  }

  /** @returns where that begins which is not sent yet, for more must come to tell what it is. */
  #scan(data: Buffer): number {
    let sent = 0;
    for (let from = 0; ;) {
      const found = data.indexOf(this.#delimiter, from);
      if (found < 0) {
        const kept = Math.max(sent, data.length - this.#delimiter.length + 1);
        this.#send(data.subarray(sent, kept));
        return kept;
      }
      const after = found + this.#delimiter.length;
      let end = after;
      while (data[end] === 0x20 || data[end] === 0x09) end++;
      if (data.length - end < 2 && end - after <= LONGEST_PADDING) {
        this.#send(data.subarray(sent, found));
        return found;
      }
      const next = data.toString('latin1', end, end + 2);
      this.#send(data.subarray(sent, after));
      sent = after;
      if (next === '--' && end === after) {
        this.#isClosed = true;
        return sent;
      }
      this.#parts += 1;
      // Anything else is left to the parser: it is no line of its own, and the part gets lost.
      if (next === CRLF && end - after <= LONGEST_PADDING) sent = end;
      from = sent;
    }
  }

  #send(bytes: Buffer): void {
    const fresh = bytes.subarray(Math.min(this.#unsent, bytes.length));
    this.#unsent -= bytes.length - fresh.length;
    if (fresh.length > 0) this.push(fresh);
  }
}

/** The boundary that a Content-Type names; null: it names none. */
export function boundaryOf(contentType: string | undefined): string | null {
  const [, quoted, plain] =
    /;\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)+)"|([^;\s"]+))/i.exec(contentType ?? '') ?? [];
  return quoted?.replaceAll(/\\(.)/g, '$1') ?? plain ?? null;
}
