// Leaves out properties that are undefined, as JSON does, so that a schema sees the value as it is stored.

/**
 * A copy without the properties that are undefined, or the value itself where it has none. Looks into plain objects and
 * arrays only, and does not recurse.
 */
export function withoutUndefined(root: unknown): unknown {
  const copies = new Map<object, object>()
  const sources: object[] = []
  let leavesOut = false

  function copyOf(value: unknown): unknown {
    if (!isContainer(value)) return value
    const known = copies.get(value)
    if (known !== undefined) return known
    const copy: object = Array.isArray(value)
      ? Array.from({ length: value.length })
      : (Object.create(Object.getPrototypeOf(value) as object | null) as object)
    copies.set(value, copy)
    sources.push(value)
    return copy
  }

  const result = copyOf(root)
  for (const source of sources) {
    const copy = copies.get(source) as object
    for (const key of Object.keys(source)) {
      const value: unknown = Reflect.get(source, key)
      if (value === undefined && !Array.isArray(source)) leavesOut = true
      // Not by assignment: a key may be called __proto__.
      else {
        const property = { value: copyOf(value), enumerable: true, writable: true, configurable: true }
        Object.defineProperty(copy, key, property)
      }
    }
  }
  return leavesOut ? result : root
}

function isContainer(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false
  if (Array.isArray(value)) return true
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}
