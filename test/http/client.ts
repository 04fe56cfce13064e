import { readFile } from 'node:fs/promises';
import type { Answer } from '../../src/http/schemas.ts';

/** A real photograph of a cat, 451x300 px. */
export const CAT = await readFile(new URL('../../models/cifar10/samples/cat.jpg', import.meta.url));

export interface Reply<Body> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Body;
}

export interface Problem {
  readonly type: string;
  readonly code: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly requestId: string;
  readonly smallestBudgetMs?: number;
}

/** `POST /classify` with one image as the body. */
export function classify<Body = Answer>(
  url: string,
  image: Uint8Array,
  headers: Record<string, string> = {},
  query = '',
): Promise<Reply<Body>> {
  return post(`${url}/classify${query}`, image, { 'content-type': 'image/jpeg', ...headers });
}

/** `GET /metrics`, without the label `model` that every series has. */
export async function scrape(url: string): Promise<string> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return text
    .replaceAll(/,?model="[^"]*"/g, '')
    .replaceAll('{,', '{')
    .replaceAll('{}', '');
}

/** Requests that clients broke off, as `scrape` gives the metrics. */
export const cancelledIn = (metrics: string) =>
  Number(
    /^depthserve_requests_total\{tier="none",outcome="cancelled"\} (\d+)/m.exec(metrics)?.[1] ?? 0,
  );

/** `POST /classify` with images as multipart fields. */
export function classifyForm<Body = { results: Answer[] }>(
  url: string,
  images: readonly Uint8Array[],
  headers: Record<string, string> = {},
  field = 'image',
): Promise<Reply<Body>> {
  const form = new FormData();
  images.forEach((image, index) => form.append(field, new Blob([image]), `${index}.jpg`));
  return post(`${url}/classify`, form, headers);
}

async function post<Body>(
  url: string,
  body: Uint8Array | FormData,
  headers: Record<string, string>,
): Promise<Reply<Body>> {
  const reply = await fetch(url, {
    method: 'POST',
    body: body as NonNullable<RequestInit['body']>,
    headers,
  });
  return { status: reply.status, headers: reply.headers, body: (await reply.json()) as Body };
}
