import { gzipSync, brotliCompressSync, deflateRawSync, deflateSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startServer } from '../server.ts';
import type { Server } from '../server.ts';
import { CAT } from './client.ts';

let server: Server;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server?.stop();
});

async function post(body: Buffer, headers: Record<string, string>) {
  const answer = await fetch(`${server.url}/classify`, {
    method: 'POST',
    body: new Uint8Array(body),
    headers: { 'x-latency-budget-ms': '5000', ...headers },
  });
  return { status: answer.status, json: (await answer.json()) as Record<string, unknown> };
}

const form = (text: string, image = CAT, end = '\r\n--b--\r\n') =>
  Buffer.concat([Buffer.from(text.replaceAll('\n', '\r\n')), image, Buffer.from(end)]);
const FORM = { 'content-type': 'multipart/form-data; boundary=b' };

describe('forms as real clients write them', () => {
  it.each([
    ['plain', 'form-data; name="image"; filename="a.jpg"'],
    [
      'unquoted, and an extended name (.NET)',
      `form-data; name=image; filename=a.jpg; filename*=utf-8''a.jpg`,
    ],
    ['an extended name alone', `form-data; name="image"; filename*=utf-8''a.jpg`],
    ['unquoted alone', 'form-data; name=image; filename=a.jpg'],
    ['the file name first', 'form-data; filename="a.jpg"; name="image"'],
    ['another case', 'Form-Data; name="image"; filename="a.jpg"'],
    ['a quote in the file name', 'form-data; name="image"; filename="a\\"b.jpg"'],
    ['no file name at all', 'form-data; name="image"'],
  ])('%s', async (_what, disposition) => {
    const body = form(`--b\nContent-Disposition: ${disposition}\nContent-Type: image/jpeg\n\n`);
    expect((await post(body, FORM)).status).toBe(200);
  });

  it.each([
    ['a preamble', 'This is a form.\n--b\n', '\r\n--b--\r\n'],
    ['an epilogue', '--b\n', '\r\n--b--\r\nThat was a form.'],
  ])('%s', async (_what, start, end) => {
    const head = 'Content-Disposition: form-data; name="image"; filename="a.jpg"\n\n';
    expect((await post(form(start + head, CAT, end), FORM)).status).toBe(200);
  });

  // RFC 2046 allows it, and @fastify/busboy does not know it: it passes over such parts.
  it.each([' ', '\t', '  \t '])('padding %j behind each boundary', async (padding) => {
    const head = 'Content-Disposition: form-data; name="image"; filename="a.jpg"\n\n';
    const body = Buffer.concat([
      form(`--b${padding}\n${head}`, CAT, `\r\n--b${padding}\r\n`),
      form(head, CAT, `\r\n--b--${padding}\r\n`),
    ]);
    const { status, json } = await post(body, FORM);
    expect([status, (json['results'] as unknown[])?.length]).toEqual([200, 2]);
  });

  it.each([
    ['none', 'Content-Type: image/jpeg'],
    ['another type', 'Content-Disposition: attachment; filename="a.jpg"'],
    ['no form', 'Content-Disposition: ; name="image"'],
    ['a misspelt one', 'Content-Dispositoin: form-data; name="image"; filename="a.jpg"'],
    ['a line break in the name', 'Content-Disposition: form-data; name="im\rage"'],
    ['no name, only that of a file,', 'Content-Disposition: form-data; filename="a.jpg"'],
    ['an extended file name alone', "Content-Disposition: form-data; filename*=utf-8''a.jpg"],
    ['neither', 'Content-Disposition: form-data'],
  ])('a part with %s for Content-Disposition is not passed over', async (_what, line) => {
    const good = 'Content-Disposition: form-data; name="image"; filename="a.jpg"\n\n';
    const body = Buffer.concat([form(`--b\n${good}`, CAT, '\r\n'), form(`--b\n${line}\n\n`, CAT)]);
    const { status, json } = await post(body, FORM);
    expect([status, json['code']]).toEqual([400, 'bad-multipart']);
    expect(json['detail']).toContain('no Content-Disposition: form-data; name=');
  });

  it('another field: told by its name', async () => {
    const body = form('--b\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\n\n');
    const { status, json } = await post(body, FORM);
    expect([status, json['code']]).toEqual([400, 'no-image']);
    expect(json['detail']).toContain('"photo"');
  });

  // @fastify/multipart refuses whatever every object of JavaScript has.
  it.each(['constructor', '__proto__', 'toString'])('a field named %s: told so', async (name) => {
    const body = form(`--b\nContent-Disposition: form-data; name="${name}"\n\n`);
    const { status, json } = await post(body, FORM);
    expect([status, json['code']]).toEqual([400, 'bad-multipart']);
    expect(json['detail']).toContain('a name that is not taken');
  });

  const PART = '--b\nContent-Disposition: form-data; name="image"; filename="a"\n\n';

  // As `curl -F image=` writes it.
  const NAMELESS = PART.replace('; filename="a"', '');
  // As browsers write a field for files where none was chosen.
  const UNCHOSEN = PART.replace('"a"', '""');
  const whole = form(PART, CAT, '\r\n');
  const empty = (head: string) => form(head, Buffer.alloc(0), '\r\n');

  it.each([
    ['between others', [whole, empty(PART), form(PART)]],
    ['without a file name', [whole, empty(NAMELESS), form(PART)]],
    ['without a file name, the last', [whole, form(NAMELESS, Buffer.alloc(0))]],
    ['behind a file that nobody chose', [empty(UNCHOSEN), whole, empty(PART), form(PART)]],
  ])('an empty image among others: 400, and told which: %s', async (_where, parts) => {
    const { status, json } = await post(Buffer.concat(parts), FORM);
    expect([status, json['code'], json['image']]).toEqual([400, 'no-image', 1]);
  });

  it('a file that nobody chose in a browser is no image', async () => {
    const { status, json } = await post(Buffer.concat([empty(UNCHOSEN), form(PART)]), FORM);
    expect([status, json['results']]).toEqual([200, undefined]);
  });

  it.each([
    ['broken', '{'],
    ['long', JSON.stringify('x'.repeat(5000))],
  ])('another field of JSON is ignored, as others are: %s', async (_what, text) => {
    const head = '--b\nContent-Disposition: form-data; name="meta"\nContent-Type: application/json';
    const meta = form(`${head}\n\n`, Buffer.from(text), '\r\n');
    expect((await post(Buffer.concat([meta, form(PART, CAT)]), FORM)).status).toBe(200);
  });

  it.each([
    ['an empty image', form(PART, Buffer.alloc(0)), 'no-image', 'The "image" of the form is empty'],
    ['a form that is cut off', form(PART, CAT, ''), 'bad-multipart', 'not end with a line --b--'],
    [
      'lines that end with LF alone',
      Buffer.from(`${PART}text\n--b--\n`),
      'bad-multipart',
      'lines end with CR LF',
    ],
    [
      'another boundary',
      Buffer.from(form(PART).toString('latin1').replaceAll('--b', '--c'), 'latin1'),
      'bad-multipart',
      'no line --b, with the boundary',
    ],
  ])('%s: 400, and told what it is', async (_what, body, code, detail) => {
    const { status, json } = await post(body, FORM);
    expect([status, json['code']]).toEqual([400, code]);
    expect(json['detail']).toContain(detail);
  });

  it.each(['', ';', '; charset=utf-8', '; boundary=', '; boundary=""'])(
    'no boundary in multipart/form-data%s: 400 bad-multipart',
    async (parameters) => {
      const type = `multipart/form-data${parameters}`;
      const { status, json } = await post(CAT, { 'content-type': type });
      expect([status, json['code']]).toEqual([400, 'bad-multipart']);
      expect(json['detail']).toContain('names no boundary');
    },
  );

  it('too many other fields: told so', async () => {
    const field = '--b\nContent-Disposition: form-data; name="x"\n\n1\n';
    const { status, json } = await post(form(field.repeat(17) + PART), FORM);
    expect([status, json['code']]).toEqual([413, 'too-many-images']);
    expect(json['detail']).toContain('or 16 other parts');
  });
});

// Libraries for e-mail write forms, too: Python's packs images so unless it is told not to.
describe('Content-Transfer-Encoding of a part', () => {
  const part = (encoding: string) =>
    '--b\nContent-Disposition: form-data; name="image"; filename="a"\n' +
    `Content-Transfer-Encoding: ${encoding}\n\n`;
  const lines = CAT.toString('base64').replaceAll(/.{76}/g, '$&\r\n');

  it.each([
    ['base64', Buffer.from(lines)],
    ['BASE64', Buffer.from(CAT.toString('base64'))],
    ['binary', CAT],
    ['8bit', CAT],
    ['', CAT],
  ])('%s is understood', async (encoding, bytes) => {
    expect((await post(form(part(encoding), bytes), FORM)).status).toBe(200);
  });

  it('another one: 400, by its name', async () => {
    const { status, json } = await post(form(part('quoted-printable')), FORM);
    expect([status, json['code']]).toEqual([400, 'bad-multipart']);
    expect(json['detail']).toContain('quoted-printable');
  });
});

describe('types of bodies', () => {
  it.each(['image/jpg', 'image/pjpeg', 'image/x-png', 'binary/octet-stream', 'IMAGE/JPEG'])(
    '%s is looked into',
    async (type) => {
      expect((await post(CAT, { 'content-type': type })).status).toBe(200);
    },
  );

  it('none at all, or an empty one, too', async () => {
    expect((await post(CAT, {})).status).toBe(200);
    expect((await post(CAT, { 'content-type': '' })).status).toBe(200);
  });
});

describe('Content-Encoding', () => {
  it.each([
    ['gzip', gzipSync(CAT)],
    ['GZIP', gzipSync(CAT)],
    ['x-gzip', gzipSync(CAT)],
    ['deflate', deflateSync(CAT)],
    // Without zlib's frame, as some clients send it.
    ['deflate', deflateRawSync(CAT)],
    ['deflate', Buffer.concat([deflateSync(CAT), Buffer.from('more')])],
    ['br', brotliCompressSync(CAT)],
    ['identity', CAT],
    ['', CAT],
    ['identity, gzip', gzipSync(CAT)],
    ['gzip,', gzipSync(CAT)],
  ])('%s is unpacked', async (encoding, body) => {
    const headers = { 'content-type': 'image/jpeg', 'content-encoding': encoding };
    expect((await post(body, headers)).status).toBe(200);
  });

  it('holds for forms, too', async () => {
    const body = form('--b\nContent-Disposition: form-data; name="image"; filename="a.jpg"\n\n');
    expect((await post(gzipSync(body), { ...FORM, 'content-encoding': 'gzip' })).status).toBe(200);
  });

  it.each(['snappy', 'gzip, gzip', 'gzip, br'])('%s: 415, by its name', async (encoding) => {
    const headers = { 'content-type': 'image/jpeg', 'content-encoding': encoding };
    const { status, json } = await post(CAT, headers);
    expect([status, json['code']]).toEqual([415, 'unsupported-media-type']);
    expect(json['detail']).toContain(`Content-Encoding is ${encoding}, not`);
    expect(json['detail']).toMatch(/Send the body packed by one of these, or as it is\.$/);
  });

  it.each([
    ['br', CAT, 'image/jpeg'],
    ['gzip', CAT, 'image/jpeg'],
    ['deflate', CAT, 'image/jpeg'],
    ['deflate', Buffer.alloc(0), FORM['content-type']],
    ['deflate', deflateSync(CAT).subarray(0, -9), 'image/jpeg'],
    ['deflate', deflateRawSync(CAT).subarray(0, -9), 'image/jpeg'],
    ['gzip', gzipSync(CAT).subarray(0, -9), 'image/jpeg'],
    ['gzip', gzipSync(CAT).subarray(0, -9), FORM['content-type']],
  ])('bytes that are no %s: 400, and told so', async (encoding, body, type) => {
    const headers = { 'content-type': type, 'content-encoding': encoding };
    const { status, json } = await post(body, headers);
    expect([status, json['code']]).toEqual([400, 'bad-request']);
    expect(json['detail']).toContain(`not what its Content-Encoding, ${encoding}, says`);
  });
});
