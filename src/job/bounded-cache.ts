// A cache that cannot grow without end.

/** A map as a cache of at most `limit` entries; the oldest goes first. */
export function cachedIn<K, V extends object | number | string>(
  cache: Map<K, V>,
  limit: number,
  key: K,
  make: () => V,
): V {
  const known = cache.get(key)
  if (known !== undefined) return known
  const [oldest] = cache.size >= limit ? cache.keys() : []
  if (oldest !== undefined) cache.delete(oldest)
  const made = make()
  cache.set(key, made)
  return made
}
