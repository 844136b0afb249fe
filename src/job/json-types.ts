// The types of JSON: they tell which values of a schema can be stored and read back, and explain a refusal.

/** Any value that JSON can hold. Properties that are undefined are left out. */
export type JsonValue = string | number | boolean | null | JsonObject | readonly JsonValue[]

interface JsonObject {
  readonly [key: string]: JsonValue | undefined
}

type IsAny<T> = 0 extends 1 & T ? true : false
type Primitive = string | number | boolean | null
type Fn = (...args: never) => unknown

/** How `AsJson` reads a type. */
interface Reading {
  /** Replaces `unknown`, `object` and `{}`, which name no type of JSON and exclude none. */
  unsaid: unknown
  /** Whether a type that JSON cannot hold becomes `never`. */
  other: 'refused' | 'kept'
  /** Whether a required property may be undefined, which leaves it out. */
  undefined: 'refused' | 'kept'
}

/**
 * `T` with its parts as JSON holds them. `any` stays. Objects and arrays are mapped when looked into, so that recursive
 * types end.
 */
type AsJson<T, M extends Reading> =
  IsAny<T> extends true
    ? T
    : unknown extends T
      ? M['unsaid']
      : T extends Primitive
        ? T
        : T extends readonly unknown[]
          ? ArrayAsJson<T, M>
          : T extends object
            ? ObjectAsJson<T, M>
            : Other<T, M>

type Other<T, M extends Reading> = M['other'] extends 'kept' ? T : never

// A tuple is mapped by its indexes: an optional item may be given as undefined, so none may be missing.
type ArrayAsJson<T extends readonly unknown[], M extends Reading> = number extends T['length']
  ? readonly AsJson<T[number], M>[]
  : M['other'] extends 'kept'
    ? T
    : readonly unknown[] & { readonly [I in keyof T & `${number}`]: AsJson<T[I], M> }

type ObjectAsJson<T extends object, M extends Reading> =
  HasNoJson<T> extends true
    ? Other<T, M>
    : [keyof T] extends [never]
      ? M['unsaid']
      : { [K in keyof T]: K extends symbol ? T[K] : PropertyAsJson<T, K, M> }

/** Whether the object is no data, whatever its properties are. Symbol keys of brands exist in types only. */
type HasNoJson<T extends object> = T extends Fn | (abstract new (...args: never) => unknown)
  ? true
  : symbol extends keyof T
    ? true
    : [T, 'stack' | 'cause'] extends [Error, keyof T]
      ? true
      : false

type PropertyAsJson<T, K extends keyof T, M extends Reading> = M['undefined'] extends 'kept'
  ? AsJsonOrUndefined<T[K], M>
  : {} extends Pick<T, K>
    ? AsJsonOrUndefined<T[K], M>
    : AsJson<T[K], M>

type AsJsonOrUndefined<T, M extends Reading> =
  IsAny<T> extends true
    ? T
    : unknown extends T
      ? M['unsaid'] | undefined
      : T extends undefined | void
        ? undefined
        : AsJson<T, M>

interface Checking extends Reading {
  other: 'refused'
  undefined: 'refused'
}
interface CheckingOutput extends Reading {
  other: 'refused'
  undefined: 'kept'
}
interface Saying extends Checking {
  unsaid: JsonValue
}
interface SayingOnly extends Reading {
  unsaid: JsonValue
  other: 'kept'
  undefined: 'kept'
}
interface Said {
  unsaid: never
}

/** The input of a payload schema, with `JsonValue` in place of `unknown`. */
export type PayloadOf<Input> = [Input] extends [AsJsonOrUndefined<Input, Checking & Said>]
  ? Input
  : AsJsonOrUndefined<Input, Saying>

/** The input of a schema whose output is stored, with `JsonValue` for an `unknown` that may be stored. */
export type ProducedFor<Input, Output> = [Output] extends [AsJsonOrUndefined<Output, CheckingOutput & Said>]
  ? Input
  : AsJsonOrUndefined<Input, SayingOnly> | (unknown extends Input ? void : never)

/** Nothing for the input of a schema that can be stored, else a sentence that says why not: the compiler quotes it. */
export type PayloadCheck<Input> = [Input] extends [AsJsonOrUndefined<Input, Checking>]
  ? unknown
  : Refusal<'payload', 'input', Trouble<Input, 'refused'>>

/** The same check for the output of a result or error schema. */
export type OutputCheck<Output, Role extends string> = [Output] extends [
  AsJsonOrUndefined<Output, CheckingOutput>,
]
  ? unknown
  : Refusal<Role, 'output', Trouble<Output, 'kept'>>

type Refusal<
  Role extends string,
  End extends string,
  What extends string,
> = `The ${Role} schema's ${End}${What}. A codec or transform makes it JSON: see "Dates and other values" in izta's docs/api.md.`

/** The first things in `T` that are not JSON, as ` at "a.b" is a Date, which JSON cannot hold`. */
type Trouble<T, U extends Reading['undefined'], Path extends string = '', Depth extends 0[] = []> =
  IsAny<T> extends true
    ? never
    : unknown extends T
      ? never
      : T extends Primitive
        ? never
        : T extends undefined | void
          ? never
          : T extends bigint
            ? Found<Path, 'a bigint'>
            : T extends symbol
              ? Found<Path, 'a symbol'>
              : T extends readonly unknown[]
                ? undefined extends T[number]
                  ? `${At<Path>} has items that may be undefined, which JSON cannot hold`
                  : Depth['length'] extends 8
                    ? never
                    : Trouble<T[number], U, `${Path}[]`, [...Depth, 0]>
                : T extends object
                  ? TroubleOfObject<T, U, Path, Depth>
                  : Found<Path, 'of a type'>

type TroubleOfObject<
  T extends object,
  U extends Reading['undefined'],
  Path extends string,
  Depth extends 0[],
> =
  KindOf<T> extends infer Kind extends string
    ? [Kind] extends [never]
      ? Depth['length'] extends 8
        ? never
        : {
            [K in keyof T & (string | number)]: U extends 'refused'
              ? {} extends Pick<T, K>
                ? Trouble<T[K], U, Join<Path, K>, [...Depth, 0]>
                : undefined extends T[K]
                  ? unknown extends T[K]
                    ? never
                    : `${At<Join<Path, K>>} may be undefined, which leaves it out: make it optional`
                  : Trouble<T[K], U, Join<Path, K>, [...Depth, 0]>
              : Trouble<T[K], U, Join<Path, K>, [...Depth, 0]>
          }[keyof T & (string | number)]
      : Found<Path, Kind>
    : never

type Found<Path extends string, Kind extends string> = `${At<Path>} is ${Kind}, which JSON cannot hold`
type At<Path extends string> = Path extends '' ? '' : ` at "${Path}"`
type Join<Path extends string, K extends string | number> = Path extends '' ? `${K}` : `${Path}.${K}`

/** The kind of an object that has no JSON; never for plain data. */
type KindOf<T extends object> = T extends Date
  ? 'a Date'
  : T extends { has: Fn; forEach: Fn; get: Fn; size: number }
    ? 'a Map'
    : T extends { has: Fn; forEach: Fn; size: number }
      ? 'a Set'
      : T extends Fn | (abstract new (...args: never) => unknown)
        ? 'a function'
        : HasNoJson<T> extends true
          ? 'an Error or an object with symbols as keys'
          : { [K in keyof T]: NonNullable<T[K]> extends Fn ? K : never }[keyof T] extends never
            ? never
            : 'an object with methods'
