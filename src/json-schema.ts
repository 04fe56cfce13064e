import type { TSchema, Type as TypeBox } from 'typebox';

/**
 * The builders of TypeBox that the service uses, with TypeBox's types. Only the code is ours: they
 * make plain JSON schemas, for which loading TypeBox's 373 modules took half a second of the start.
 */
type Builders = Pick<
  typeof TypeBox,
  | 'Array'
  | 'Boolean'
  | 'Integer'
  | 'Literal'
  | 'Null'
  | 'Number'
  | 'Object'
  | 'Optional'
  | 'Record'
  | 'String'
  | 'Union'
  | 'Unknown'
  | 'Unsafe'
>;

/** Properties that an object may lack. */
const optional = new WeakSet<object>();

const plain = (type: string) => (options?: object) => ({ type, ...options });

const builders = {
  Array: (items: TSchema, options?: object) => ({ type: 'array', items, ...options }),
  Boolean: plain('boolean'),
  Integer: plain('integer'),
  Literal: (value: unknown, options?: object) => ({
    type: typeof value,
    const: value,
    ...options,
  }),
  Null: plain('null'),
  Number: plain('number'),
  Object(properties: Readonly<Record<string, TSchema>>, options?: object) {
    const required = Object.keys(properties).filter((name) => !optional.has(properties[name]!));
    return {
      type: 'object',
      ...(required.length > 0 && { required }),
      properties,
      ...options,
    };
  },
  Optional(schema: TSchema) {
    // A copy: the same schema may be required elsewhere.
    const copy = { ...schema };
    optional.add(copy);
    return copy;
  },
  Record: (_keys: TSchema, values: TSchema, options?: object) => ({
    type: 'object',
    patternProperties: { '^.*$': values },
    ...options,
  }),
  String: plain('string'),
  Union: (anyOf: readonly TSchema[], options?: object) => ({ anyOf, ...options }),
  Unknown: (options?: object) => ({ ...options }),
  Unsafe: (schema: object) => schema,
};

// TypeBox's types have more than a schema: what `Static` reads, which exists in types alone.
export const Type = builders as unknown as Builders;
