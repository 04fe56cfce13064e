/** Between the messages of gRPC and those of REST, which mean the same. */
import { ServeError } from '../errors.ts';
import { checked } from '../http/v2/message.ts';
import type { Message } from '../http/v2/message.ts';
import { lengthPrefixed } from '../http/v2/outputs.ts';
import type { InferResponse } from '../http/v2/schemas.ts';

type Parameters = Readonly<Record<string, Parameter>>;
/** As the loader gives it: the one value, by the name that `parameter_choice` has. */
type Parameter = Readonly<Record<string, unknown>> & { readonly parameter_choice?: string };

/** As much of inference.ModelInferRequest as is read. */
export interface ModelInferRequest {
  readonly model_name: string;
  readonly model_version: string;
  readonly id: string;
  readonly parameters: Parameters;
  readonly inputs: readonly {
    readonly name: string;
    readonly datatype: string;
    readonly shape: readonly number[];
    readonly parameters: Parameters;
    readonly contents: Readonly<Record<string, readonly unknown[]>> | null;
  }[];
  readonly outputs: readonly { readonly name: string; readonly parameters: Parameters }[];
  readonly raw_input_contents: readonly Buffer[];
}

/** Where the values of a tensor may be, if they are not in `raw_input_contents`. */
const CONTENTS: Readonly<Record<string, string>> = {
  UINT8: 'uint_contents',
  BYTES: 'bytes_contents',
};

/**
 * The message that REST would have got.
 *
 * @throws {ServeError} bad-request, bad-tensor, not-offered
 */
export function messageOf(request: ModelInferRequest): Message {
  const { id, inputs, outputs, raw_input_contents: raw } = request;
  if (raw.length > 0 && raw.length !== inputs.length) {
    const detail = `There are ${raw.length} raw_input_contents for ${inputs.length} inputs.`;
    throw new ServeError('bad-request', detail);
  }
  const json = checked({
    ...(id !== '' && { id }),
    parameters: valuesOf(request.parameters),
    inputs: inputs.map(({ name, datatype, shape, parameters }) => {
      return { name, datatype, shape, parameters: valuesOf(parameters) };
    }),
    outputs: outputs.map(({ name, parameters }) => ({ name, parameters: valuesOf(parameters) })),
  });
  // There is one input, as has just been checked.
  const input = json.inputs[0]!;
  const binary = tensorOf(inputs[0]!, raw[0]);
  const parameters = { ...input.parameters, binary_data_size: binary.length };
  return { json: { ...json, inputs: [{ ...input, parameters }] }, binary };
}

function tensorOf(
  { datatype, contents }: ModelInferRequest['inputs'][number],
  raw: Buffer | undefined,
): Buffer {
  const filled = Object.entries(contents ?? {}).filter(([, values]) => values.length > 0);
  if (raw) {
    if (filled.length === 0) return raw;
    throw wrong('there are both contents and raw_input_contents');
  }
  const field = CONTENTS[datatype];
  // What is no datatype of ours is told by those who read the tensor.
  if (field === undefined) return Buffer.alloc(0);
  const other = filled.find(([name]) => name !== field);
  if (other) throw wrong(`${datatype} is in ${other[0]}, not in ${field}`);
  if (filled.length === 0) throw wrong(`there is neither ${field} nor raw_input_contents`);
  const values = filled[0]![1];
  return datatype === 'BYTES'
    ? lengthPrefixed(values as readonly Buffer[])
    : bytesOf(values as readonly number[]);
}

/** Counted, and kept, as what they are. */
function bytesOf(values: readonly number[]): Buffer {
  if (values.some((value) => value > 255)) {
    throw wrong('there is a value that is no integer from 0 to 255');
  }
  return Buffer.from(values);
}

const wrong = (what: string) => new ServeError('bad-tensor', `In the input, ${what}.`);

function valuesOf(parameters: Parameters): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(parameters).flatMap(([name, parameter]) => {
      const { parameter_choice: choice } = parameter;
      return choice === undefined ? [] : [[name, parameter[choice]]];
    }),
  );
}

/** inference.ModelInferResponse; outputs are all in `binary`. */
export function responseOf(response: InferResponse, binary: readonly Buffer[]): object {
  const { id, model_name, model_version, parameters, outputs } = response;
  return {
    id,
    model_name,
    model_version,
    parameters: Object.fromEntries(
      Object.entries(parameters).map(([name, value]) => [name, parameterOf(value)]),
    ),
    outputs: outputs.map(({ name, datatype, shape }) => ({ name, datatype, shape })),
    raw_output_contents: binary,
  };
}

function parameterOf(value: string | number | boolean): object {
  if (typeof value === 'string') return { string_param: value };
  return typeof value === 'boolean' ? { bool_param: value } : { double_param: value };
}
