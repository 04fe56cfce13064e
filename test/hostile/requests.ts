import { deflateSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { hostileImage } from './images.ts';

/** A request as it goes over the wire; headers may repeat. */
export interface Hostile {
  readonly method: string;
  readonly path: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
}

const ODD_NUMBERS = [
  'NaN',
  '-1',
  '0',
  '-0',
  '1e308',
  '1e-308',
  'Infinity',
  '0x10',
  '1,2',
  '',
  ' ',
  '3600001',
  '9'.repeat(400),
  '1'.repeat(5e3),
  '５',
  '1_000',
  '+5',
  '5.',
  '.5',
  'null',
  '[]',
  '1;2',
].map((text) => Buffer.from(text).toString('latin1'));
const oddNumber = fc.oneof(
  fc.constantFrom(...ODD_NUMBERS),
  fc.double().map(String),
  fc.string({ maxLength: 20 }).map(printable),
);

/** What Node's client agrees to send in a header. */
function printable(text: string): string {
  return Buffer.from(text)
    .toString('latin1')
    .replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, '?');
}

const contentType = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('image/jpeg', 'image/png', 'image/webp') },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      'application/octet-stream',
      'text/plain',
      'application/json',
      '',
      'image/*',
      '/',
      ';',
      'multipart/form-data',
      'multipart/form-data; boundary=',
      'IMAGE/JPEG; q=1',
      'x'.repeat(999),
    ),
  },
);

const oddHeader: fc.Arbitrary<readonly [string, string]> = fc.oneof(
  fc.tuple(fc.constant('X-Latency-Budget-Ms'), oddNumber),
  fc.tuple(fc.constant('X-Min-Accuracy'), oddNumber),
  fc.tuple(fc.constant('X-Request-Id'), fc.string({ maxLength: 200 }).map(printable)),
  fc.tuple(fc.constant('Endpoint-Load-Metrics-Format'), fc.constantFrom('text', 'json', 'x', '')),
  fc.tuple(fc.constant('Content-Encoding'), fc.constantFrom('gzip', 'deflate', 'br', 'x', '')),
  fc.tuple(fc.constant('Inference-Header-Content-Length'), oddNumber),
  fc.tuple(fc.constant('Accept'), fc.string({ maxLength: 50 }).map(printable)),
  fc.tuple(fc.constant('Authorization'), fc.string({ maxLength: 50 }).map(printable)),
  fc.tuple(
    fc.constantFrom('X-Forwarded-For', 'Forwarded', 'Cookie', '__proto__', 'constructor'),
    fc.string({ maxLength: 300 }).map(printable),
  ),
);
/** Mostly none: what is refused by its head does not reach the decoders. */
const oddHeaders = fc.oneof(
  { weight: 4, arbitrary: fc.constant([]) },
  { weight: 1, arbitrary: fc.array(oddHeader, { minLength: 1, maxLength: 4 }) },
);

const single: fc.Arbitrary<Hostile> = fc
  .record({
    body: hostileImage,
    type: contentType,
    headers: oddHeaders,
    topK: fc.oneof(
      { weight: 6, arbitrary: fc.constant(undefined) },
      { weight: 1, arbitrary: oddNumber },
    ),
  })
  .map(({ body, type, headers, topK }) => ({
    method: 'POST',
    path: topK === undefined ? '/classify' : `/classify?topK=${encodeURIComponent(topK)}`,
    headers: [['Content-Type', type], ...headers],
    body,
  }));

const text = (max: number) => fc.string({ maxLength: max, unit: 'binary' });

const part = fc
  .record({
    name: fc.oneof(fc.constantFrom('image', 'image', 'photo', '__proto__', ''), text(30)),
    file: fc.option(fc.oneof(fc.constantFrom('a.jpg', '../../etc/passwd', ''), text(30))),
    head: fc.oneof(
      { weight: 5, arbitrary: fc.constant('') },
      {
        weight: 1,
        arbitrary: fc.constantFrom('X: y\r\n'.repeat(100), `X: ${'y'.repeat(20_000)}\r\n`),
      },
      { weight: 1, arbitrary: fc.constant('Content-Transfer-Encoding: base64\r\n') },
    ),
    body: fc.oneof(
      { weight: 6, arbitrary: hostileImage },
      {
        weight: 1,
        arbitrary: fc.integer({ max: 500_000, min: 0 }).map((n) => Buffer.alloc(n, 97)),
      },
    ),
    repeat: fc.oneof(
      { weight: 12, arbitrary: fc.constant(1) },
      { weight: 1, arbitrary: fc.integer({ min: 2, max: 100 }) },
    ),
  })
  .map(({ name, file, head, body, repeat }) => {
    const filename = file === null ? '' : `; filename="${file}"`;
    const top = `Content-Disposition: form-data; name="${name}"${filename}\r\n${head}\r\n`;
    // Many copies, but of small bodies.
    const content = repeat > 1 ? body.subarray(0, 20_000) : body;
    return { bytes: Buffer.concat([Buffer.from(top, 'latin1'), content]), repeat };
  });

const form: fc.Arbitrary<Hostile> = fc
  .record({
    parts: fc.array(part, { maxLength: 6 }),
    announced: fc.constantFrom('b', 'b', 'b', 'b', 'c', '', '"b"', 'b; x', 'b'.repeat(200)),
    newline: fc.constantFrom('\r\n', '\r\n', '\r\n', '\n'),
    end: fc.constantFrom('--b--\r\n', '--b--\r\n', '--b--', '--b', '', '--b--\r\nmore'),
    many: fc.oneof(
      { weight: 30, arbitrary: fc.constant(0) },
      { weight: 1, arbitrary: fc.integer({ min: 1000, max: 5000 }) },
    ),
    headers: oddHeaders,
  })
  .map(({ parts, announced, newline, end, many, headers }) => {
    const tiny = Buffer.from('Content-Disposition: form-data; name="image"; filename="x"\r\n\r\nx');
    const all = [...parts, { bytes: tiny, repeat: many }];
    const pieces = all.flatMap(({ bytes, repeat }) =>
      Array.from({ length: repeat }, () => [
        Buffer.from('--b' + newline),
        bytes,
        Buffer.from(newline),
      ]),
    );
    return {
      method: 'POST',
      path: '/classify',
      headers: [['Content-Type', `multipart/form-data; boundary=${announced}`], ...headers],
      body: Buffer.concat([...pieces.flat(), Buffer.from(end)]),
    };
  });

const PIXELS = 32 * 32 * 3;
const size = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(1, 2, 3, 32) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(0, -1, -32, 1.5, 65, 1e9, 2 ** 31, 2 ** 53, 1e308, '3', null),
  },
);
const shape = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom([1, 32, 32, 3], [2, 32, 32, 3], [1], [2], [1, 1]) },
  { weight: 2, arbitrary: fc.array(size, { maxLength: 9 }) },
  { weight: 1, arbitrary: fc.constantFrom([2 ** 30, 2 ** 30, 2 ** 30, 3], [64, 32, 32, 3], 'x') },
);
const integers = (most: number) => fc.integer({ min: 0, max: most }).map((n) => Array(n).fill(7));
const data = fc.oneof(
  fc.constant(Array(PIXELS).fill(100) as unknown),
  integers(2 * PIXELS),
  fc.array(fc.oneof(fc.integer(), fc.double(), fc.string(), fc.constant(null)), { maxLength: 20 }),
  fc.array(
    hostileImage.map((file) => file.toString('base64')),
    { maxLength: 3 },
  ),
  fc.integer({ min: 1, max: 3000 }).map((depth) => {
    let nested: unknown = [1];
    for (let i = 0; i < depth; i++) nested = [nested];
    return nested;
  }),
  fc.jsonValue(),
);

/** BYTES elements, some with a length that is not theirs. */
const elements = fc
  .array(fc.tuple(hostileImage, fc.constantFrom(0, 0, 0, 1, -1, 2 ** 31)), { maxLength: 4 })
  .map((files) =>
    Buffer.concat(
      files.flatMap(([file, lie]) => {
        const length = Buffer.alloc(4);
        length.writeUInt32LE((file.length + lie) >>> 0);
        return [length, file];
      }),
    ),
  );

const tensor: fc.Arbitrary<Hostile> = fc
  .record({
    shape,
    datatype: fc.constantFrom('UINT8', 'UINT8', 'BYTES', 'BYTES', 'FP32', 'INT64', '', 'uint8', 5),
    name: fc.constantFrom('image', 'image', 'image', 'x', '__proto__', 'x'.repeat(5000)),
    content: fc.oneof(
      data.map((values) => ({ values, binary: null })),
      fc
        .oneof(elements, fc.constant(Buffer.alloc(PIXELS, 9)), hostileImage)
        .map((binary) => ({ values: undefined, binary })),
    ),
    sizeLie: fc.constantFrom(0, 0, 0, 0, 1, -1, 1e9, -1e9, 0.5),
    headLie: fc.constantFrom(0, 0, 0, 0, 0, 1, -1, 1e9, -1e9),
    parameters: fc.option(
      fc.dictionary(
        fc.constantFrom(
          'timeout',
          'latency_budget_ms',
          'min_accuracy',
          'skip',
          'binary_data_output',
          'x',
        ),
        fc.oneof(fc.double(), fc.string(), fc.boolean(), fc.constantFrom('TTTT', 'T', null, [])),
      ),
      { nil: undefined },
    ),
    outputs: fc.option(
      fc.array(
        fc.record({
          name: fc.constantFrom('logits', 'probabilities', 'x'),
          parameters: fc.dictionary(
            fc.constantFrom('classification', 'binary_data'),
            fc.constantFrom<unknown>(1, 3, -1, 1e9, 0.5, 'x', true, false),
          ),
        }),
        { maxLength: 3 },
      ),
      { nil: undefined },
    ),
    encoding: fc.constantFrom('', '', '', 'gzip', 'deflate', 'gzip bomb', 'not gzip'),
    headers: oddHeaders,
    spoil: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { freq: 9 }),
  })
  .map((spec) => {
    const { values, binary } = spec.content;
    const input = {
      name: spec.name,
      shape: spec.shape,
      datatype: spec.datatype,
      ...(values !== undefined && { data: values }),
      ...(binary && { parameters: { binary_data_size: binary.length + spec.sizeLie } }),
    };
    const { parameters, outputs } = spec;
    let head = Buffer.from(JSON.stringify({ inputs: [input], parameters, outputs }));
    if (spec.spoil !== null) head = head.subarray(0, Math.floor(spec.spoil * head.length));
    const plain = binary ? Buffer.concat([head, binary]) : head;
    const headers: [string, string][] = [];
    if (binary)
      headers.push(['Inference-Header-Content-Length', String(head.length + spec.headLie)]);
    if (spec.encoding) headers.push(['Content-Encoding', spec.encoding.split(' ').at(0)!]);
    if (spec.encoding === 'not gzip') headers[headers.length - 1]![1] = 'gzip';
    return {
      method: 'POST',
      path: '/v2/models/cifar10-small-resnet/infer',
      headers: [...headers, ...spec.headers],
      body: packed(spec.encoding, plain),
    };
  });

const ZEROS = gzipSync(Buffer.alloc(100_000_000));

function packed(encoding: string, plain: Buffer): Buffer {
  if (encoding === 'gzip bomb') return ZEROS;
  if (encoding === 'gzip') return gzipSync(plain);
  return encoding === 'deflate' ? deflateSync(plain) : plain;
}

const elsewhere: fc.Arbitrary<Hostile> = fc.record({
  method: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND', 'TRACE'),
  path: fc.oneof(
    fc.constantFrom(
      '/',
      '/classify',
      '/feedback',
      '/model',
      '/live?since=x',
      '/live?since=-1',
      '//',
      '/%',
      '/%ZZ',
      '/%00',
      '/docs/../../etc/passwd',
      '/..%2f..%2fpackage.json',
      '/docs/static/%2e%2e/x',
      '/v2/models/%F0/ready',
      '/v2/models/x/versions/%',
      `/${'a'.repeat(6000)}`,
      '/?',
      '/main.js',
      '/tsconfig.json',
      '/.git/config',
      '/v2/models/__proto__',
      '/classify?topK=1&topK=2',
    ),
    fc.webPath().map((path) => path || '/'),
  ),
  headers: oddHeaders.map((headers) => [['Content-Type', 'application/json'] as const, ...headers]),
  body: fc
    .oneof(
      fc.constantFrom('', '{', '{"id":1}', '{"__proto__":{}}', '{"id":"a","label":"cat"}', '[]'),
      fc.json(),
    )
    .map((json) => Buffer.from(json)),
});

export const hostileRequest: fc.Arbitrary<Hostile> = fc.oneof(
  { weight: 5, arbitrary: single },
  { weight: 3, arbitrary: form },
  { weight: 4, arbitrary: tensor },
  { weight: 1, arbitrary: elsewhere },
);

/** Bytes that are no HTTP request, or half of one; sent as they are. */
export const brokenHttp: fc.Arbitrary<Buffer> = fc
  .oneof(
    fc.constantFrom(
      'GET / HTTP/1.1\r\n\r\n',
      'POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nshort',
      'POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n',
      'POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello',
      'POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\nx',
      'POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      'POST /classify HTTP/1.1\r\nHost: x\r\nX-Latency-Budget-Ms: 5\0\r\n\r\n',
      'POST /classify HTTP/9.9\r\n\r\n',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
      `GET / HTTP/1.1\r\nHost: x\r\nCookie: ${'x'.repeat(30_000)}\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: x\r\n${'X: y\r\n'.repeat(3000)}\r\n`,
      `GET /${'a'.repeat(70_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
      'GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
      'CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n',
      'POST /classify HTTP/1.1\r\nHost: x\r\nExpect: 200-maybe\r\nContent-Length: 1\r\n\r\nx',
    ),
    fc.string({ unit: 'binary', maxLength: 200 }),
  )
  .map((bytes) => Buffer.from(bytes, 'latin1'));
