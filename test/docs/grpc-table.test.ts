import { readFileSync } from 'node:fs';
import { status } from '@grpc/grpc-js';
import { describe, expect, it } from 'vitest';
import { ERRORS, ServeError } from '../../src/errors.ts';
import type { ErrorCode } from '../../src/errors.ts';
import { grpcStatus } from '../../src/grpc/status.ts';

const isCode = (name: string): name is ErrorCode => name in ERRORS;
const statusOf = (code: ErrorCode) => status[grpcStatus(new ServeError(code, '')).code];

/** What docs/api.md tells of gRPC: each code and its status, of rows such as "| `INTERNAL` | `internal` |". */
const told = [
  ...readFileSync('docs/api.md', 'utf8').matchAll(/^\| `([A-Z_]+)` \| (.*) \|$/gm),
].flatMap(([, name, text]) =>
  [...text!.matchAll(/`([a-z-]+)`/g)]
    .map(([, code]) => code!)
    .filter(isCode)
    .map((code) => [code, name!] as const),
);

describe("docs/api.md's table of statuses over gRPC", () => {
  it.each(told)('%s: %s', (code, name) => {
    expect(statusOf(code)).toBe(name);
  });

  it('has every status that an error can have', () => {
    const possible = Object.keys(ERRORS).filter(isCode).map(statusOf);
    expect(new Set(told.map(([, name]) => name))).toEqual(new Set(possible));
  });
});
