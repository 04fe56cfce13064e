import type { ServerUnaryCall, UntypedServiceImplementation } from '@grpc/grpc-js';
import { expect, it } from 'vitest';
import { handlers } from '../../src/grpc/handlers.ts';
import type { GrpcParts, Head, Heads } from '../../src/grpc/heads.ts';

/** Calls ModelInfer for a version, of a model that was updated to 2 when the head was here. */
async function asked(model_version: string): Promise<string> {
  const service = { manifest: { name: 'm', version: '2' } };
  const head = { deployment: { manifest: { name: 'm', version: '1' } }, leave: [] };
  const heads = { take: () => head as unknown as Head, over() {} } as unknown as Heads;
  const request = {
    model_name: 'm',
    model_version,
    inputs: [],
    raw_input_contents: [Buffer.alloc(1)],
  };
  const call = { request } as unknown as ServerUnaryCall<object, object>;
  const methods: UntypedServiceImplementation = handlers(
    { service } as unknown as GrpcParts,
    heads,
  );
  return new Promise((resolve) => {
    const answered = (error: object | null) => resolve((error as { details: string }).details);
    (methods['ModelInfer'] as (call: object, answered: object) => void)(call, answered);
  });
}

it('a call may name the version that took it, though another serves meanwhile', async () => {
  expect(await asked('1')).toMatch(/^bad-request: There are 1 raw_input_contents for 0 inputs/);
  expect(await asked('2')).toMatch(/^no-such-model: There is no model m, version 2 here/);
});
