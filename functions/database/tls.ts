// TLS as the default: what the connection string itself says of it counts more.

/** For a database on this machine there is none. */
export const tlsFor = (connectionString: string): boolean =>
  !['', 'localhost', '127.0.0.1', '[::1]'].includes(URL.parse(connectionString)?.hostname ?? '')
