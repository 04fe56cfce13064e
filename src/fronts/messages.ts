/**
 * Messages between the main thread and its fronts. A message is a list: what happens in one turn of
 * the event loop travels together, since waking a thread costs more than most of what it is told.
 */
import type { OutgoingHttpHeaders } from 'node:http';
import type { MessagePort, Worker } from 'node:worker_threads';
import type { Config } from '../config.ts';
import type { ErrorCode, ErrorParts } from '../errors.ts';
import type { Manifest } from '../model/manifest.ts';
import type { ImageRequest } from '../pipeline/pipeline.ts';
import type { Refusal } from '../scheduler/policy.ts';
import type { Answered, Classified } from '../telemetry/recorder.ts';

/** What a front is started with. */
export interface FrontOptions {
  readonly config: Config;
  readonly version: string;
  readonly port: number;
  /** Whether others listen there, too. */
  readonly sharesPort: boolean;
  /** Null: the log is JSON; else it is text, in colours or not. */
  readonly text: { readonly colours: boolean } | null;
  /** Of the main thread's clock, see `clockOrigin`. */
  readonly origin: number;
  /** Shared memory: a place for each thread, that of the main thread first. */
  readonly bytes: BigInt64Array;
  /** As `bytes`. */
  readonly connections: BigInt64Array;
  /** This one's place in both. */
  readonly place: number;
}

/** A request to a route that the main thread answers. */
export interface Question {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string | undefined;
}

export interface Reply {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Uint8Array;
}

/** One image's answer, without what only the main thread needs. */
export type Seen = Omit<Classified, 'manifest' | 'best' | 'stages'>;

/** What is asked about a request, and what the answer is. Times are on the main thread's clock. */
export interface Calls {
  readonly enter: {
    readonly takes: { readonly asks: ImageRequest | null };
    /** The version by its number. */
    readonly gives: { readonly version: number; readonly refusal: Refusal | null };
  };
  /** Of a request that has not entered, too. */
  readonly classify: {
    readonly takes: {
      /** Files, or pixels of the network's input size. */
      readonly images: readonly Uint8Array[];
      readonly areFiles: boolean;
      readonly request: ImageRequest;
    };
    readonly gives: { readonly version: number; readonly images: readonly Seen[] };
  };
  /** Of one to a route that the main thread answers. */
  readonly ask: { readonly takes: Question; readonly gives: Reply };
}

/** `id` is the front's number of a request. */
type Call = {
  [Name in keyof Calls]: { readonly type: Name; readonly id: number } & Calls[Name]['takes'];
}[keyof Calls];

export type FromFront =
  | Call
  | { readonly type: 'listening' }
  | ({ readonly type: 'answered'; readonly id: number } & Omit<Answered, 'images'>)
  | {
      readonly type: 'unanswered';
      readonly code: ErrorCode;
      /** Number of the version; -1: none was chosen yet. */
      readonly version: number;
      readonly totalMs: number;
    }
  /** The connection is through with the request, answered or not. */
  | { readonly type: 'leave'; readonly id: number }
  | { readonly type: 'lines-lost'; readonly lines: number };

export type ToFront =
  /** The next number of a version, from 0. */
  | { readonly type: 'version'; readonly manifest: Manifest }
  | { readonly type: 'result'; readonly id: number; readonly result: unknown }
  | { readonly type: 'failed'; readonly id: number; readonly error: ErrorParts }
  | { readonly type: 'drain' };

/** ms that a message waits for others for which nobody waits. */
const LATER_MS = 20;

/** Gathers what is to be sent, in its order. */
export class Outbox<Message> {
  #messages: Message[] = [];
  #transfer: ArrayBuffer[] = [];
  #isDue = false;

  constructor(private readonly port: MessagePort | Worker) {}

  /** Sends it at the end of this turn of the event loop. */
  post(message: Message, transfer: readonly ArrayBuffer[] = []): void {
    this.#messages.push(message);
    if (transfer.length > 0) this.#transfer.push(...transfer);
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => this.flush());
  }

  /** Sends it with the next one, soon if none comes. */
  postLater(message: Message): void {
    if (this.#messages.push(message) === 1) setTimeout(() => this.flush(), LATER_MS).unref();
  }

  /** Sends it now. */
  flush(): void {
    this.#isDue = false;
    if (this.#messages.length === 0) return;
    this.port.postMessage(this.#messages, this.#transfer);
    this.#messages = [];
    this.#transfer = [];
  }
}

/** ms: what `performance.now()` of this thread counts from, on a clock that all threads share. */
export const clockOrigin = (): number => Number(process.hrtime.bigint()) / 1e6 - performance.now();
