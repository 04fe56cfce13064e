import { createHash } from 'node:crypto';
import { readFileSync, unwatchFile, watchFile } from 'node:fs';
import { performance } from 'node:perf_hooks';
import type { FastifyBaseLogger } from 'fastify';
import type { Static } from 'typebox';
import { ConfigError } from '../config.ts';
import { ServeError, fileProblem } from '../errors.ts';
import { newAjv, parseJson } from '../json.ts';
import { Type } from '../json-schema.ts';

export const TokensFile = Type.Object(
  {
    tokens: Type.Array(
      Type.Object(
        {
          name: Type.String({ minLength: 1, maxLength: 64 }),
          /** Of the token, in hexadecimal. Tokens are random, so that no salt is needed. */
          sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
          /** Requests a second, of which as many may come at once; absent: any number. */
          perSecond: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
          /** Requests that may be under way at the same time; absent: any number. */
          atOnce: Type.Optional(Type.Integer({ minimum: 1 })),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);
type Entry = Static<typeof TokensFile>['tokens'][number];

const validate = newAjv().compile<Static<typeof TokensFile>>(TokensFile);

/** How often the file is looked at; a mounted Secret changes by a link, which no watch reports. */
const LOOK_EVERY_MS = 1000;

/** One holder of a token, and what it has used up. */
class Holder {
  #underWay = 0;
  #credit: number;
  #creditAt = performance.now();

  constructor(readonly entry: Entry) {
    this.#credit = this.#most;
  }

  get #most(): number {
    return Math.max(1, this.entry.perSecond ?? 1);
  }

  /** @throws {ServeError} too-many-requests */
  enter(): () => void {
    const { perSecond, atOnce } = this.entry;
    if (atOnce !== undefined && this.#underWay >= atOnce) {
      const detail = `The token has ${atOnce} requests under way.`;
      throw new ServeError('too-many-requests', detail, { retryAfterMs: 1000 });
    }
    if (perSecond !== undefined) {
      const now = performance.now();
      const earned = ((now - this.#creditAt) / 1000) * perSecond;
      this.#credit = Math.min(this.#most, this.#credit + earned);
      this.#creditAt = now;
      if (this.#credit < 1) {
        const detail = `The token may send ${perSecond} requests a second.`;
        const retryAfterMs = ((1 - this.#credit) / perSecond) * 1000;
        throw new ServeError('too-many-requests', detail, { retryAfterMs });
      }
      this.#credit -= 1;
    }
    this.#underWay += 1;
    return () => {
      this.#underWay -= 1;
    };
  }
}

/** Who may enter: bearer tokens from a file, which is read again whenever it changes. */
export class Access {
  /** By the hash of their token. */
  #holders: ReadonlyMap<string, Holder> = new Map();

  /** @throws {ConfigError} when the file cannot be read or is wrong. */
  constructor(
    private readonly file: string,
    log: FastifyBaseLogger,
  ) {
    this.#holders = this.#renewed(read(file));
    watchFile(file, { interval: LOOK_EVERY_MS, persistent: false }, () => {
      try {
        this.#holders = this.#renewed(read(file));
        log.info({ tokens: this.#holders.size }, 'tokens read again');
      } catch (err) {
        log.error({ err }, 'tokens not read: the old ones stay in force');
      }
    });
  }

  /**
   * Lets a request in, by its `Authorization` header.
   *
   * @returns to be called when the request is over.
   * @throws {ServeError} unauthorized, too-many-requests
   */
  enter(authorization: string | undefined): () => void {
    const token = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
    const holder = token === undefined ? undefined : this.#holderOf(token);
    if (!holder)
      throw new ServeError('unauthorized', 'The request has no token that is known here.');
    return holder.enter();
  }

  close(): void {
    unwatchFile(this.file);
  }

  /** The time that it takes may tell of a hash what it begins with: nothing of the token itself. */
  #holderOf(token: string): Holder | undefined {
    return this.#holders.get(createHash('sha256').update(token).digest('hex'));
  }

  /** Who is in the file as before keeps what it has used up. */
  #renewed(entries: readonly Entry[]): ReadonlyMap<string, Holder> {
    const holders = [...this.#holders.values()];
    const known = new Map(holders.map((holder) => [JSON.stringify(holder.entry), holder]));
    return new Map(
      entries.map((entry) => [entry.sha256, known.get(JSON.stringify(entry)) ?? new Holder(entry)]),
    );
  }
}

function read(file: string): readonly Entry[] {
  let data: unknown;
  try {
    data = parseJson(readFileSync(file, 'utf8'));
  } catch (error) {
    // Its message quotes the file, which may be a token that somebody put there as it is.
    if (error instanceof SyntaxError) throw new ConfigError(`TOKENS_FILE: ${file}: it is no JSON`);
    throw new ConfigError(`TOKENS_FILE: ${file}: ${fileProblem(error)}`, { cause: error });
  }
  if (validate(data)) return data.tokens;
  const [first] = validate.errors!;
  throw new ConfigError(`TOKENS_FILE: ${file}${first!.instancePath} ${first!.message}`);
}
