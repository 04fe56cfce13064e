import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The server as the image of a checkout starts it: what follows `node`, and what its allocator is told. */
export function imageCommand(checkout = '.'): {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
} {
  const dockerfile = readFileSync(join(checkout, 'Dockerfile'), 'utf8');
  const [, ...args] = JSON.parse(/^ENTRYPOINT (.*)$/m.exec(dockerfile)![1]!) as string[];
  const tunables = /GLIBC_TUNABLES=(\S+)/.exec(dockerfile);
  return { args, env: tunables ? { GLIBC_TUNABLES: tunables[1]! } : {} };
}
