import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { Delimiters, boundaryOf } from '../../src/http/delimiters.ts';

async function through(text: string, chunk = text.length) {
  const bytes = Buffer.from(text, 'latin1');
  const chunks = Array.from({ length: Math.ceil(bytes.length / chunk) }, (_, index) =>
    bytes.subarray(index * chunk, (index + 1) * chunk),
  );
  const delimiters = new Delimiters('b');
  const out = await buffer(Readable.from(chunks, { objectMode: false }).pipe(delimiters));
  return { text: out.toString('latin1'), parts: delimiters.parts };
}

describe('delimiters of a form', () => {
  const part = 'A: b\r\n\r\nbytes';

  it.each([
    ['plain', `--b\r\n${part}\r\n--b--\r\n`, null, 1],
    ['padded', `--b \t\r\n${part}\r\n--b  \r\n${part}\r\n--b--`, / \t|  /, 2],
    ['with a preamble and an epilogue', `p\r\n--b\r\n${part}\r\n--b--\r\n--b \r\n`, null, 1],
    ['inside the bytes', `--b\r\n${part} --b \r\n\r\n--c \r\n\r\n--b--`, null, 1],
    ['no lines of their own', `--b\r\n${part}\r\n--bx \r\n${part}\r\n--b--`, null, 2],
    ['padded with too much', `--b${' '.repeat(300)}\r\n${part}\r\n--b--`, null, 1],
    ['cut off', `--b\r\n${part}\r\n--b `, null, 1],
    ['none', 'bytes \r\n--', null, 0],
    ['nothing at all', '', null, 0],
  ])('%s: however the bytes come', async (_what, text, padding, parts) => {
    const expected = padding ? text.replaceAll(new RegExp(padding, 'g'), '') : text;
    for (let chunk = 1; chunk <= Math.max(1, text.length); chunk++) {
      expect(await through(text, chunk)).toEqual({ text: expected, parts });
    }
  });

  it.each([
    ['multipart/form-data; boundary=b', 'b'],
    ['multipart/form-data; Boundary="a \\"b"; charset=utf-8', 'a "b'],
    ['multipart/form-data;charset=x;boundary=--b', '--b'],
    ['multipart/form-data', null],
    [undefined, null],
  ])('the boundary of %j', (type, boundary) => {
    expect(boundaryOf(type)).toBe(boundary);
  });
});
